/** The client: one object for everything a program or a page wants of Carillon. */

import { Manager, type ManagerOptions, type Socket, type SocketOptions } from "socket.io-client";

import { Channel, type ConnectionState, type StateEvents } from "./channel.js";
import type { Listener } from "./emitter.js";
import { CarillonError } from "./errors.js";
import type { ClientEvents, InboxEvents, QueueEvents } from "./events.js";
import { JobStore } from "./jobs.js";
import { Notifications } from "./notifications.js";
import { Rest, type RequestOptions } from "./rest.js";
import type { Identity } from "./tokens.js";
import type { Job, JobFilter, JobOptions, Page, PageRequest, Session, Submission } from "./types.js";
import { subscribeJob, waitForJob, type JobCallbacks, type WaitOptions } from "./wait.js";

/** Where the platform is, who the client is, and how it goes about it. */
export interface ClientOptions extends Identity {
  /** The platform's address, with the path it lies under if it does; the page's own origin if not given. */
  url?: string;
  /** Milliseconds a request may take. */
  timeout?: number;
  fetch?: typeof fetch;
  /** Options of socket.io-client, such as `transports`. */
  socketOptions?: Partial<ManagerOptions & SocketOptions>;
}

/** What a submission takes besides the job itself. */
export interface SubmitExtras {
  /** The same key and job twice are one job; made up for each call if not given, so that it can be repeated. */
  idempotencyKey?: string;
  /** What people call the job; the title of its type if not given. */
  name?: string;
  signal?: AbortSignal;
}

const TIMEOUT_MS = 30_000;

type Events = ClientEvents & StateEvents;

/** A client of one platform in the name of one user. */
export class CarillonClient {
  /** The namespace `/queue`: connected while somebody listens. */
  readonly queue: Pick<Channel<QueueEvents>, "on" | "off" | "state" | "isConnected">;
  /** The inbox, and the namespace `/notifications`: connected while somebody listens. */
  readonly notifications: Notifications;
  /** Live views of single jobs, for those who write hooks of their own. */
  readonly jobs: JobStore;
  readonly #rest: Rest;
  readonly #channel: Channel<ClientEvents>;
  readonly #channels: readonly Pick<Channel<ClientEvents>, "open" | "close" | "forget">[];

  constructor(options: ClientOptions) {
    const url = options.url ?? (globalThis as { location?: { origin: string } }).location?.origin;
    if (url === undefined) throw new CarillonError("no_url", "The client needs the platform's url.");
    const timeout = options.timeout ?? TIMEOUT_MS;
    this.#rest = new Rest(url, options, timeout, options.fetch ?? ((...request) => fetch(...request)));
    const { tokens } = this.#rest;
    const manager = new Manager(url, {
      path: `${new URL(url).pathname.replace(/\/+$/, "")}/socket.io`,
      // Over a WebSocket from the start, several web nodes need no sticky sessions.
      transports: ["websocket", "polling"],
      tryAllTransports: true,
      ...options.socketOptions,
      autoConnect: false,
    });
    this.#channel = new Channel<ClientEvents>(manager, "/", tokens);
    const queue = new Channel<QueueEvents>(manager, "/queue", tokens, { onDemand: true });
    // A change of the inbox is told in two messages with one number, the count last.
    const completes = (name: string) => name === "unread-count";
    const inbox = new Channel<InboxEvents>(manager, "/notifications", tokens, { onDemand: true, completes });
    this.#channels = [this.#channel, queue, inbox];
    this.queue = queue;
    this.notifications = new Notifications(this.#rest, inbox);
    this.jobs = new JobStore(this.#channel, this.#rest);
  }

  /** Connect and stay connected, through everything but a refusal, until `close()`. */
  connect(): void {
    for (const channel of this.#channels) channel.open();
  }

  /** Disconnect. What happens until the next `connect()` is told then, as far as the platform remembers it. */
  close(): void {
    for (const channel of this.#channels) channel.close();
  }

  /** How the connection is. */
  get state(): ConnectionState {
    return this.#channel.state;
  }

  get isConnected(): boolean {
    return this.#channel.isConnected;
  }

  /** The plain socket of the default namespace, for code that is written for socket.io-client. */
  get socket(): Socket {
    return this.#channel.socket;
  }

  /** Hear an event of the default namespace; returns what stops that. */
  on<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): () => void {
    return this.#channel.on(name, listener);
  }

  off<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): void {
    this.#channel.off(name, listener);
  }

  /** Log in; from here on the client is this user, and renews its tokens by itself. */
  async login(username: string, password: string): Promise<Session> {
    const session = await this.#rest.anonymous<Session>("POST", "/api/auth/login", { username, password });
    const wasOpen = this.state !== "closed";
    this.#leave();
    this.#rest.tokens.takeOver(session);
    if (wasOpen) this.connect();
    return session;
  }

  /** End the session that `login()` or `refreshToken` began, and disconnect. */
  async logout(): Promise<void> {
    const refreshToken = this.#rest.tokens.end();
    this.#leave();
    if (refreshToken !== undefined) await this.#rest.anonymous("POST", "/api/auth/logout", { refreshToken });
  }

  /** Submit a job. Failures of the network are tried again; by its idempotency key it is submitted once. */
  async submitJob<Result = unknown>(
    type: string,
    payload: Record<string, unknown> = {},
    options: JobOptions = {},
    { idempotencyKey = freshKey(), name, signal }: SubmitExtras = {},
  ): Promise<Job<Result>> {
    const body = { type, payload, options, ...(name === undefined ? {} : { name }) };
    return this.#submit("/api/jobs", body, idempotencyKey, signal);
  }

  /** Submit up to 1,000 jobs, all or none. */
  async submitJobs(
    jobs: readonly Submission[],
    { idempotencyKey = freshKey(), signal }: Omit<SubmitExtras, "name"> = {},
  ): Promise<Job[]> {
    return (await this.#submit<{ data: Job[] }>("/api/jobs/batch", { jobs }, idempotencyKey, signal)).data;
  }

  /** A job as it is now. */
  getJob<Result = unknown>(jobId: string): Promise<Job<Result>> {
    return this.#rest.request("GET", jobPath(jobId), { repeatable: true });
  }

  /** A page of the jobs, newest first. */
  listJobs(request: JobFilter & PageRequest = {}): Promise<Page<Job>> {
    return this.#rest.request("GET", "/api/jobs", { query: request, repeatable: true });
  }

  /** Cancel a job: a waiting one at once, a running one as soon as it notices. */
  async cancelJob(jobId: string, reason?: string): Promise<Job> {
    return this.#taken(await this.#rest.request("DELETE", jobPath(jobId), reason === undefined ? {} : { body: { reason } }));
  }

  /** Run a failed or cancelled job again. */
  async retryJob(jobId: string): Promise<Job> {
    return this.#taken(await this.#rest.request("POST", `${jobPath(jobId)}/retry`));
  }

  /** Follow a job, from its present state on, until the returned function is called. */
  subscribeJob<Result = unknown>(jobId: string, callbacks: JobCallbacks<Result>): () => void {
    return subscribeJob(this.jobs, jobId, callbacks);
  }

  /**
   * The result of a job, once it has completed.
   *
   * Rejects with JobFailedError, JobCancelledError, JobWaitTimeoutError, the signal's reason, or CarillonApiError where
   * the job cannot be read. Without a connection it polls.
   */
  waitForJob<Result = unknown>(jobId: string, options: WaitOptions = {}): Promise<Result> {
    return waitForJob<Result>(this.jobs, jobId, options);
  }

  /** Any request to the platform in the name of the user, for what has no method of its own here. */
  request<Answer>(method: string, path: string, options: RequestOptions = {}): Promise<Answer> {
    return this.#rest.request<Answer>(method, path, options);
  }

  #leave(): void {
    this.close();
    for (const channel of this.#channels) channel.forget();
    this.jobs.forget();
    this.notifications.forget();
  }

  #submit<Answer>(path: string, body: unknown, idempotencyKey: string, signal?: AbortSignal): Promise<Answer> {
    const headers = { "Idempotency-Key": idempotencyKey };
    return this.#rest.request("POST", path, { body, headers, repeatable: true, ...(signal ? { signal } : {}) });
  }

  #taken(job: Job): Job {
    this.jobs.take(job);
    return job;
  }
}

/** A client; it connects when `connect()` is called. */
export function createClient(options: ClientOptions): CarillonClient {
  return new CarillonClient(options);
}

function jobPath(jobId: string): string {
  return `/api/jobs/${encodeURIComponent(jobId)}`;
}

// `randomUUID` is missing from pages that were not loaded over HTTPS.
function freshKey(): string {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (word) => word.toString(36)).join("-");
}
