/** One namespace of the socket: connected, kept connected, and never told anything twice. */

import type { Manager, Socket } from "socket.io-client";

import { backoff } from "./backoff.js";
import { Emitter, type Listener } from "./emitter.js";
import { CarillonApiError, CarillonConnectionError, CarillonError, isTransient } from "./errors.js";
import { parseEventId, Place } from "./event-id.js";
import type { ConnectionEvents } from "./events.js";
import { isTokenRefusal, type Tokens } from "./tokens.js";
import type { ErrorBody } from "./types.js";

/**
 * `closed`: nobody wants a connection · `connecting`: the first one is under way · `connected` · `reconnecting`: it was
 * lost, or refused for the moment · `refused`: the platform does not let this client in; `connect()` tries again.
 */
export type ConnectionState = "closed" | "connecting" | "connected" | "reconnecting" | "refused";

/** What this side says about its connection. */
export interface StateEvents {
  state: ConnectionState;
  /** Why the platform, or the source of tokens, does not let the client in. */
  refused: CarillonError;
}

type Answer = { ok: true; [more: string]: unknown };
type Acknowledgement = Answer | { ok: false; error: ErrorBody };

/** How a namespace behaves. */
export interface ChannelOptions {
  /** True: connected only while somebody listens. */
  onDemand?: boolean;
  /** Whether a message is the last that bears its number; every one is if not given. */
  completes?: (name: string) => boolean;
}

const ANSWER_MS = 10_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
// A fresh token that is refused too is no matter of time.
const TOKENS_TRIED = 2;
// Components come and go, often in one turn of the event loop; a connection outlives that.
const LINGER_MS = 50;

/** A namespace with its listeners. */
export class Channel<Events extends ConnectionEvents> extends Emitter<Events & StateEvents> {
  /** The plain socket beneath, for code that knows nothing of this package. */
  readonly socket: Socket;
  readonly #tokens: Tokens;
  readonly #namespace: string;
  readonly #isOnDemand: boolean;
  readonly #place: Place;
  #state: ConnectionState = "closed";
  #isOpen = false;
  #token: string | undefined;
  #userId: string | undefined;
  #introduction = 0;
  #told: string | undefined;
  #hasConnected = false;
  #connectedAt = 0;
  #refusals = 0;
  #tries = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #lingering: ReturnType<typeof setTimeout> | undefined;

  constructor(manager: Manager, namespace: string, tokens: Tokens, options: ChannelOptions = {}) {
    super();
    this.#tokens = tokens;
    this.#namespace = namespace;
    this.#isOnDemand = options.onDemand ?? false;
    this.#place = new Place(options.completes ?? (() => true));
    this.socket = manager.socket(namespace, { auth: (tell) => this.#introduce(tell) });
    this.socket.onAny((name: string, data: unknown) => this.#hear(name, data));
    this.socket.on("connect", () => this.#begin());
    this.socket.on("connect_error", (error) => this.#fail(error as Error & { data?: unknown }));
    this.socket.on("disconnect", (reason) => this.#lose(reason));
  }

  /** How the connection is. */
  get state(): ConnectionState {
    return this.#state;
  }

  get isConnected(): boolean {
    return this.#state === "connected";
  }

  override on<Name extends keyof (Events & StateEvents)>(
    name: Name,
    listener: Listener<(Events & StateEvents)[Name]>,
  ): () => void {
    const off = super.on(name, listener);
    this.#adjust();
    return off;
  }

  override off<Name extends keyof (Events & StateEvents)>(
    name: Name,
    listener: Listener<(Events & StateEvents)[Name]>,
  ): void {
    super.off(name, listener);
    this.#adjust();
  }

  /** Connect, now or as soon as somebody listens, and stay so. */
  open(): void {
    this.#isOpen = true;
    if (this.#state === "refused") this.#leave();
    this.#adjust();
  }

  /** Disconnect; what is heard until the next `open()` will be told then. */
  close(): void {
    this.#isOpen = false;
    if (this.#state !== "closed") this.#leave();
  }

  /** Somebody else will use this client: nothing of the log of the one before is known. */
  forget(): void {
    this.#place.forget();
    this.#userId = this.#token = undefined;
    this.#hasConnected = false;
  }

  /**
   * Emit an event; its acknowledgement. Rejects with CarillonApiError or CarillonConnectionError.
   *
   * `take` is told of a good one before anything that the platform sent after it is heard: who awaits a promise goes
   * on only later.
   */
  call(name: string, data: unknown, take?: (answer: Answer) => void): Promise<Answer> {
    return new Promise((resolve, reject) => {
      if (!this.socket.connected) throw new CarillonConnectionError(`${name}: not connected`);
      this.socket.timeout(ANSWER_MS).emit(name, data, (error: Error | null, answer: Acknowledgement) => {
        if (error) reject(new CarillonConnectionError(`${name} was not answered`, error));
        else if (!answer.ok) reject(new CarillonApiError(answer.error));
        else {
          take?.(answer);
          resolve(answer);
        }
      });
    });
  }

  #adjust(): void {
    clearTimeout(this.#lingering);
    const isWanted = this.#isOpen && (this.isHeard || !this.#isOnDemand);
    if (isWanted && this.#state === "closed") {
      this.#become("connecting");
      this.socket.connect();
    } else if (!isWanted && this.#state !== "closed") {
      this.#lingering = setTimeout(() => this.#leave(), LINGER_MS);
    }
  }

  #leave(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#lingering);
    this.#introduction++;
    this.#refusals = this.#tries = 0;
    this.#become("closed");
    this.socket.disconnect();
  }

  #become(state: ConnectionState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#tell("state", state);
  }

  // The compiler cannot see that the events of a channel have these two.
  #tell<Name extends keyof StateEvents>(name: Name, data: StateEvents[Name]): void {
    this.emit(name, data as (Events & StateEvents)[Name]);
  }

  #introduce(tell: (auth: object) => void): void {
    // The connection may be lost and another one begun before the token is there.
    const introduction = ++this.#introduction;
    this.#tokens.get().then(
      (token) => {
        if (introduction !== this.#introduction) return;
        this.#token = token;
        this.#told = this.#place.known;
        tell(this.#told === undefined ? { token } : { token, lastEventId: this.#told });
      },
      (error: unknown) => {
        if (introduction === this.#introduction) this.#withoutToken(error);
      },
    );
  }

  #withoutToken(error: unknown): void {
    this.socket.disconnect();
    const isFinal = error instanceof CarillonError && !isTransient(error);
    if (isFinal) this.#refuse(error);
    else this.#again();
  }

  #begin(): void {
    this.#refusals = 0;
    this.#connectedAt = Date.now();
    const isBlind = this.#hasConnected && this.#told === undefined;
    this.#hasConnected = true;
    if (isBlind) this.#admitGap();
    this.#become("connected");
  }

  #lose(reason: Socket.DisconnectReason): void {
    this.#introduction++;
    if (this.#state === "closed" || this.#state === "refused") return;
    this.#become("reconnecting");
    if (Date.now() - this.#connectedAt > LONGEST_WAIT_MS) this.#tries = 0;
    // By itself the socket comes back from everything but this.
    if (reason === "io server disconnect") this.#again();
  }

  #fail(error: Error & { data?: unknown }): void {
    if (this.socket.active || this.#state === "closed") return;
    this.#introduction++;
    const body = (error.data ?? {}) as Partial<ErrorBody>;
    const refusal = new CarillonError(body.code ?? "connection_refused", error.message, { cause: error });
    if (isTokenRefusal(body.code)) void this.#withAnotherToken(refusal);
    else if (body.code !== undefined && (body.status ?? 500) < 500 && body.status !== 429) this.#refuse(refusal);
    else this.#again();
  }

  async #withAnotherToken(refusal: CarillonError): Promise<void> {
    const introduction = this.#introduction;
    if (this.#refusals++ >= TOKENS_TRIED) return this.#refuse(refusal);
    try {
      await this.#tokens.renew(this.#token);
      if (introduction === this.#introduction) this.#again(0);
    } catch (error) {
      if (introduction === this.#introduction) this.#withoutToken(error);
    }
  }

  #again(wait = backoff(this.#tries++, FIRST_WAIT_MS, LONGEST_WAIT_MS)): void {
    if (this.#hasConnected) this.#become("reconnecting");
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.socket.connect(), wait);
  }

  #refuse(error: CarillonError): void {
    clearTimeout(this.#timer);
    this.#become("refused");
    this.#tell("refused", error);
  }

  #hear(name: string, data: unknown): void {
    const id = parseEventId((data as { eventId?: unknown } | null)?.eventId);
    if (id && !this.#place.advance(id, name)) return;
    if (name === "authenticated") this.#recognized(data as ConnectionEvents["authenticated"]);
    else if (name === "auth:expiring") void this.#authenticate();
    const isLost = name === "resumed" && !(data as ConnectionEvents["resumed"]).recovered;
    if (isLost) this.#place.distrust();
    this.emit(name as keyof Events, data as (Events & StateEvents)[keyof Events]);
    if (isLost) this.#admitGap();
  }

  #admitGap(): void {
    this.emit("gap", { namespace: this.#namespace } as Events["gap"]);
  }

  #recognized({ userId, lastEventId }: ConnectionEvents["authenticated"]): void {
    if (this.#userId !== undefined && this.#userId !== userId) this.#place.forget();
    this.#userId = userId;
    const id = parseEventId(lastEventId);
    if (id) this.#place.reach(id);
  }

  async #authenticate(): Promise<void> {
    try {
      const token = await this.#tokens.renew(this.#token);
      await this.call("authenticate", { token });
      this.#token = token;
    } catch {
      // The platform will end the connection, and the next one begins with another token or is refused.
    }
  }
}
