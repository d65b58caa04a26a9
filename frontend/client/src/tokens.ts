/** Where access tokens come from, and when a new one is fetched. */

import { CarillonApiError, CarillonConnectionError, CarillonError } from "./errors.js";
import type { Session } from "./types.js";

/** Why a token is asked for: there is none yet, or the platform wants another one than the last. */
export type TokenReason = "start" | "renew";

/** A function of the application that knows a token. */
export type GetToken = (reason: TokenReason) => string | Promise<string>;

/** Who the client is; one of these, or none where `login()` will be called. */
export interface Identity {
  /** An access token; once it has run out the client stands still, so it suits short visits. */
  token?: string;
  /** Asked for the first token, and for each that follows when one runs out. */
  getToken?: GetToken;
  /** Logs in when a token is needed. */
  credentials?: { username: string; password: string };
  /** Of an earlier session. Each can be used once: do not share one between two clients. */
  refreshToken?: string;
  /** Told every new session, for an application that keeps its refresh token. */
  onSession?: (session: Session) => void;
}

/** Sends `body` to a path that needs no token. */
export type Post = (path: string, body: unknown) => Promise<Session>;

// A token that is about to run out would do so on its way.
const MARGIN_MS = 5_000;

/** The access token of a client. However many ask at once, one new token is fetched. */
export class Tokens {
  #identity: Identity;
  readonly #post: Post;
  #current: string | undefined;
  #endsAt = Infinity;
  #refreshToken: string | undefined;
  #pending: Promise<string> | undefined;
  // Grows when somebody else takes over: what was fetched for the one before is dropped.
  #era = 0;

  constructor(identity: Identity, post: Post) {
    this.#identity = identity;
    this.#post = post;
    this.#refreshToken = identity.refreshToken;
  }

  /** A token that is believed to hold. */
  async get(): Promise<string> {
    if (this.#current !== undefined && Date.now() < this.#endsAt - MARGIN_MS) return this.#current;
    return this.renew(this.#current);
  }

  /** Another token than `refused`, which the platform takes no more. */
  renew(refused: string | undefined): Promise<string> {
    if (this.#pending) return this.#pending;
    if (this.#current !== undefined && this.#current !== refused) return Promise.resolve(this.#current);
    const pending = this.#renewed(refused === undefined ? "start" : "renew").finally(() => {
      if (this.#pending === pending) this.#pending = undefined;
    });
    return (this.#pending = pending);
  }

  /** From here on the client is whoever this session is of. */
  takeOver(session: Session): void {
    const { onSession } = this.#identity;
    this.end();
    this.#identity = onSession ? { onSession } : {};
    this.#adopt(session);
  }

  /** Forget the session; the refresh token it had. */
  end(): string | undefined {
    const refreshToken = this.#refreshToken;
    this.#current = this.#refreshToken = this.#pending = undefined;
    this.#endsAt = Infinity;
    this.#era++;
    return refreshToken;
  }

  #adopt(session: Session): string {
    this.#refreshToken = session.refreshToken;
    this.#endsAt = Date.now() + session.expiresIn * 1000;
    this.#identity.onSession?.(session);
    return (this.#current = session.accessToken);
  }

  async #renewed(reason: TokenReason): Promise<string> {
    const era = this.#era;
    const fetched = await this.#fetch(reason);
    if (era !== this.#era) return this.get();
    return typeof fetched === "string" ? (this.#current = fetched) : this.#adopt(fetched);
  }

  async #fetch(reason: TokenReason): Promise<string | Session> {
    const { token, getToken, credentials } = this.#identity;
    if (getToken) return this.#asked(getToken, reason);
    if (token !== undefined && reason === "start") return token;
    if (this.#refreshToken !== undefined) return this.#refresh(this.#refreshToken);
    if (credentials) return this.#post("/api/auth/login", credentials);
    throw new CarillonError(
      token === undefined ? "not_authenticated" : "token_expired",
      token === undefined ? "There is no token: log in first." : "The token has run out, and there is no getToken.",
    );
  }

  async #asked(getToken: GetToken, reason: TokenReason): Promise<string> {
    try {
      return await getToken(reason);
    } catch (error) {
      // Whatever went wrong may pass, unless the application says otherwise by an error of this package.
      throw error instanceof CarillonError ? error : new CarillonConnectionError(`getToken: ${String(error)}`, error);
    }
  }

  async #refresh(refreshToken: string): Promise<Session> {
    const { credentials } = this.#identity;
    try {
      return await this.#post("/api/auth/refresh", { refreshToken });
    } catch (error) {
      if (!(error instanceof CarillonApiError) || error.isTransient) throw error;
      // The session is over; with credentials another one can be begun.
      if (this.#refreshToken === refreshToken) this.#refreshToken = undefined;
      if (!credentials) throw error;
      return this.#post("/api/auth/login", credentials);
    }
  }
}

/** Whether the platform refused a token, so that another one may do. */
export function isTokenRefusal(code: string | undefined): boolean {
  return code === "token_expired" || code === "invalid_token";
}
