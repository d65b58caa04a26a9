/** Requests to the platform's REST interface. */

import { backoff, sleep } from "./backoff.js";
import { CarillonApiError, CarillonConnectionError, isTransient } from "./errors.js";
import { isTokenRefusal, Tokens, type Identity } from "./tokens.js";
import type { ErrorBody, Session } from "./types.js";

/** What a request takes besides its method and path. */
export interface RequestOptions {
  query?: object;
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
  /** True: asking twice does no harm, so failures of the network are tried again. */
  repeatable?: boolean;
}

const TRIES = 3;
const FIRST_WAIT_MS = 300;
const LONGEST_WAIT_MS = 10_000;

/** Asks the platform in the name of whoever the tokens are of. */
export class Rest {
  readonly tokens: Tokens;
  readonly #url: string;
  readonly #fetch: typeof fetch;
  readonly #timeout: number;

  constructor(url: string, identity: Identity, timeout: number, fetcher: typeof fetch) {
    this.#url = url.replace(/\/+$/, "");
    this.#fetch = fetcher;
    this.#timeout = timeout;
    this.tokens = new Tokens(identity, (path, body) => this.#send<Session>("POST", path, { body }));
  }

  /** The JSON of the answer. Rejects with CarillonApiError, CarillonConnectionError or the signal's reason. */
  async request<Answer>(method: string, path: string, options: RequestOptions = {}): Promise<Answer> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#authenticated<Answer>(method, path, options);
      } catch (error) {
        if (!options.repeatable || tries === TRIES || !isTransient(error)) throw error;
        const asked = error instanceof CarillonApiError ? (error.retryAfter ?? 0) * 1000 : 0;
        if (asked > LONGEST_WAIT_MS) throw error;
        await sleep(Math.max(asked, backoff(tries, FIRST_WAIT_MS, LONGEST_WAIT_MS)), options.signal);
      }
    }
  }

  /** A request that needs no token. */
  anonymous<Answer>(method: string, path: string, body: unknown): Promise<Answer> {
    return this.#send<Answer>(method, path, { body });
  }

  async #authenticated<Answer>(method: string, path: string, options: RequestOptions): Promise<Answer> {
    const token = await this.tokens.get();
    try {
      return await this.#send<Answer>(method, path, options, token);
    } catch (error) {
      if (!(error instanceof CarillonApiError) || !isTokenRefusal(error.code)) throw error;
      const fresh = await this.tokens.renew(token).catch(() => undefined);
      if (fresh === undefined || fresh === token) throw error;
      return this.#send<Answer>(method, path, options, fresh);
    }
  }

  async #send<Answer>(method: string, path: string, options: RequestOptions, token?: string): Promise<Answer> {
    const { body, signal } = options;
    const headers: Record<string, string> = { Accept: "application/json", ...options.headers };
    if (token !== undefined) headers["Authorization"] = `Bearer ${token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const limit = AbortSignal.timeout(this.#timeout);
    try {
      const answer = await this.#fetch(this.#url + path + queryOf(options.query), {
        method,
        headers,
        signal: signal ? AbortSignal.any([signal, limit]) : limit,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await answer.text();
      if (!answer.ok) throw apiError(answer, text);
      return (text === "" ? undefined : JSON.parse(text)) as Answer;
    } catch (error) {
      if (error instanceof CarillonApiError) throw error;
      signal?.throwIfAborted();
      throw new CarillonConnectionError(`${method} ${path}: ${String(error)}`, error);
    }
  }
}

function queryOf(query: object = {}): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  return given.length ? `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}` : "";
}

function apiError(answer: Response, text: string): CarillonApiError {
  const seconds = Number(answer.headers.get("Retry-After") ?? NaN);
  return new CarillonApiError(errorBody(answer, text), Number.isFinite(seconds) ? seconds : undefined);
}

// A proxy on the way answers in a shape of its own.
function errorBody(answer: Response, text: string): ErrorBody {
  try {
    const body = JSON.parse(text) as ErrorBody;
    if (typeof body.code === "string" && typeof body.message === "string") return { ...body, status: answer.status };
  } catch {
    // Not JSON.
  }
  const message = answer.statusText || `The answer was ${answer.status}`;
  return { code: "http_error", message, status: answer.status, requestId: answer.headers.get("X-Request-Id") };
}
