/** The jobs that somebody watches: one subscription each, however many watch, and the picture kept right. */

import { backoff, sleep } from "./backoff.js";
import type { Channel } from "./channel.js";
import { CarillonApiError, CarillonError, isTransient } from "./errors.js";
import type { ClientEvents } from "./events.js";
import { Gate } from "./gate.js";
import type { Rest } from "./rest.js";
import { isFinal, type Job, type Progress } from "./types.js";

/** What is known of a job; a new object at every change. */
export interface JobView<Result = unknown> {
  readonly job: Job<Result> | null;
  /** Why the job cannot be read: there is no such job, or it is somebody else's. */
  readonly error: CarillonError | null;
}

/** Nothing is known. */
export const NO_VIEW: JobView = Object.freeze({ job: null, error: null });

const FIRST_POLL_MS = 1_000;
const LONGEST_POLL_MS = 15_000;
// A lost connection is mostly back before polling is worth its while.
const GRACE_MS = 2_000;
// Of other people's jobs the room tells less than of one's own: not that they were cancelled.
const FOREIGN_MS = 15_000;
// Components come and go, often in one turn of the event loop; a subscription outlives that.
const LINGER_MS = 50;
const READ_AT_ONCE = 10;
// A socket may say only so much; what it may not ask is asked over REST meanwhile.
const BUSY_MS = 1_000;
const UNSUBSCRIBE_TRIES = 20;

class Watched {
  view: JobView = NO_VIEW;
  readonly listeners = new Set<() => void>();
  /** Changes of status that were heard: a reading that they overtook is not trusted. */
  turns = 0;
  /** Whether its events come to this user, and with them everything there is to know. */
  isOwn = false;
  /** Progress that was heard while the first reading was under way, which may be older. */
  early: Progress | null = null;
  isSubscribed = false;
  isReading = false;
  readAgain = false;
  tries = 0;
  timer: ReturnType<typeof setTimeout> | undefined;
  release: ReturnType<typeof setTimeout> | undefined;
  readonly deafen: (() => void)[] = [];

  constructor(readonly id: string) {}

  get isEnded(): boolean {
    return this.view.job !== null && isFinal(this.view.job.status);
  }
}

/** Follows jobs over the socket, and over REST while there is none. */
export class JobStore {
  readonly #channel: Channel<ClientEvents>;
  readonly #rest: Rest;
  readonly #watched = new Map<string, Watched>();
  readonly #gate = new Gate(READ_AT_ONCE);
  #busyUntil = 0;

  constructor(channel: Channel<ClientEvents>, rest: Rest) {
    this.#channel = channel;
    this.#rest = rest;
    channel.on("state", (state) => (state === "connected" ? this.#readAll() : this.#pollSoon()));
    // Before a connection stands, its own beginning will do.
    channel.on("gap", () => channel.isConnected && this.#readAll());
    channel.on("job:progress", ({ jobId, progress }) => this.#advance(jobId, progress, true));
    channel.on("job:created", (job) => this.#turnWhole(job));
    channel.on("job:started", (job) => this.#turnWhole(job));
    channel.on("job:status", ({ jobId, status, progress }) => {
      this.#turn(jobId, { status, ...(progress ? { progress } : {}) });
    });
    channel.on("job:retrying", ({ jobId, attempt, maxAttempts, nextAttemptAt }) => {
      this.#turn(jobId, { status: "retrying", attempt, maxAttempts, nextAttemptAt });
    });
    channel.on("job:completed", ({ jobId, result, resultTruncated }) => {
      this.#complete(jobId, result, resultTruncated, true);
    });
    channel.on("job:failed", ({ jobId, error, errorCode, attempt, maxAttempts }) => {
      const why = { code: errorCode, message: error, retryable: false };
      this.#turn(jobId, { status: "failed", error: why, attempt, maxAttempts });
    });
    channel.on("job:cancelled", ({ jobId, reason }) => {
      this.#turn(jobId, { status: "cancelled", cancelReason: reason });
    });
  }

  /** Keep a job's view up to date, and call `listener` after each change, until the returned function is called. */
  watch(jobId: string, listener: () => void): () => void {
    const watched = this.#watched.get(jobId) ?? this.#begin(jobId);
    clearTimeout(watched.release);
    // The same function may watch twice.
    const own = () => listener();
    watched.listeners.add(own);
    return () => {
      if (!watched.listeners.delete(own) || watched.listeners.size) return;
      watched.release = setTimeout(() => this.#end(watched), LINGER_MS);
    };
  }

  /** What is known of a job that is watched. */
  view(jobId: string): JobView {
    return this.#watched.get(jobId)?.view ?? NO_VIEW;
  }

  /** Take a job from an answer of the platform. */
  take(job: Job): void {
    const watched = this.#watched.get(job.id);
    if (watched) this.#takeReading(watched, job, watched.turns);
  }

  /** Forget what is known: somebody else uses the client. */
  forget(): void {
    for (const watched of this.#watched.values()) {
      this.#show(watched, NO_VIEW);
      watched.isOwn = false;
    }
  }

  #begin(jobId: string): Watched {
    const watched = new Watched(jobId);
    this.#watched.set(jobId, watched);
    watched.deafen.push(
      this.#channel.on(`job:${jobId}:progress`, ({ details }) => this.#advance(jobId, details, false)),
      this.#channel.on(`job:${jobId}:completed`, ({ result, resultTruncated }) => {
        this.#complete(jobId, result, resultTruncated, false);
      }),
      // The room is not told the code of the error.
      this.#channel.on(`job:${jobId}:failed`, () => {
        if (watched.view.job?.status !== "failed") void this.#read(watched);
      }),
    );
    void this.#read(watched);
    return watched;
  }

  #end(watched: Watched): void {
    clearTimeout(watched.timer);
    watched.deafen.forEach((deafen) => deafen());
    this.#watched.delete(watched.id);
    if (watched.isSubscribed) void this.#unsubscribe(watched.id);
  }

  // A room too many does little harm, and the next connection begins without it.
  async #unsubscribe(jobId: string): Promise<void> {
    for (let tries = 0; tries < UNSUBSCRIBE_TRIES; tries++) {
      if (!this.#channel.isConnected || this.#watched.has(jobId)) return;
      try {
        await this.#channel.call("unsubscribe:job", jobId);
        return;
      } catch {
        await sleep(BUSY_MS * (1 + Math.random()));
      }
    }
  }

  #show(watched: Watched, view: JobView): void {
    watched.view = view;
    for (const listener of [...watched.listeners]) listener();
  }

  // What events say

  #advance(jobId: string, progress: Progress, isNumbered: boolean): void {
    const watched = this.#watched.get(jobId);
    // One's own jobs are told of twice, once by number.
    if (!watched || (watched.isOwn && !isNumbered)) return;
    watched.isOwn ||= isNumbered;
    const { job } = watched.view;
    if (!job) watched.early = progress;
    else if (!isFinal(job.status)) this.#show(watched, { job: { ...job, status: "active", progress }, error: null });
  }

  #complete(jobId: string, result: unknown, isTruncated = false, isNumbered: boolean): void {
    const watched = this.#watched.get(jobId);
    if (!watched || (!isNumbered && watched.isEnded)) return;
    if (!isTruncated && !watched.view.job?.sensitive) {
      this.#turn(jobId, { status: "completed", result, error: null }, isNumbered);
      return;
    }
    watched.isOwn ||= isNumbered;
    watched.turns++;
    void this.#read(watched);
  }

  #turnWhole({ eventId: _, jobId: __, ...job }: ClientEvents["job:created"]): void {
    const watched = this.#watched.get(job.id);
    if (!watched?.view.job || watched.view.job.version < job.version) this.#turn(job.id, job);
    else watched.isOwn = true;
  }

  #turn(jobId: string, change: Partial<Job>, isNumbered = true): void {
    const watched = this.#watched.get(jobId);
    if (!watched) return;
    watched.isOwn ||= isNumbered;
    watched.turns++;
    const { job } = watched.view;
    if (!job) return;
    // Either this is older than what is known, or the job was sent round again: events alone do not tell which.
    const isBack = watched.isEnded && !isFinal(change.status ?? job.status) && change.version === undefined;
    const isRepeated = watched.isEnded && change.status === job.status;
    if (isBack) void this.#read(watched);
    else if (!isRepeated) this.#show(watched, { job: { ...job, ...change }, error: null });
    // The event left out when it ended, and more.
    if (!isBack && !isRepeated && isFinal(change.status ?? job.status) && watched.listeners.size) void this.#read(watched);
  }

  // What readings say

  #readAll(): void {
    for (const watched of this.#watched.values()) {
      watched.tries = 0;
      void this.#read(watched);
    }
  }

  #pollSoon(): void {
    for (const watched of this.#watched.values()) {
      watched.isSubscribed = false;
      this.#readIn(watched, GRACE_MS);
    }
  }

  #readIn(watched: Watched, milliseconds: number): void {
    clearTimeout(watched.timer);
    if (!this.#isGone(watched)) watched.timer = setTimeout(() => void this.#read(watched), milliseconds);
  }

  #isGone(watched: Watched): boolean {
    return this.#watched.get(watched.id) !== watched;
  }

  async #read(watched: Watched): Promise<void> {
    watched.readAgain = true;
    if (watched.isReading) return;
    watched.isReading = true;
    clearTimeout(watched.timer);
    try {
      while (watched.readAgain && !this.#isGone(watched)) {
        watched.readAgain = false;
        await this.#gate.run(() => this.#fetch(watched));
      }
      this.#readLater(watched);
    } catch (error) {
      this.#cannotRead(watched, error);
    } finally {
      watched.isReading = false;
    }
  }

  async #fetch(watched: Watched): Promise<void> {
    const { turns } = watched;
    watched.early = null;
    if (await this.#subscribe(watched, turns)) return;
    const job = await this.#rest.request<Job>("GET", `/api/jobs/${encodeURIComponent(watched.id)}`);
    this.#takeReading(watched, job, turns);
  }

  /** Whether the answer told all there is to know. */
  async #subscribe(watched: Watched, turns: number): Promise<boolean> {
    if (!this.#channel.isConnected || Date.now() < this.#busyUntil) return false;
    let isTold = false;
    try {
      await this.#channel.call("subscribe:job", watched.id, (answer) => {
        const job = answer["job"] as Job;
        watched.isSubscribed = true;
        isTold = !(job.status === "completed" && job.sensitive && job.result === null);
        if (isTold) this.#takeReading(watched, job, turns);
      });
    } catch (error) {
      if (!(error instanceof CarillonApiError) || error.status !== 429) throw error;
      this.#busyUntil = Date.now() + BUSY_MS;
    }
    return isTold;
  }

  #takeReading(watched: Watched, job: Job, turns: number): void {
    if (this.#isGone(watched)) return;
    const before = watched.view.job;
    if (before && job.version < before.version) return;
    if (turns !== watched.turns && !isFinal(job.status)) {
      watched.readAgain = true;
      return;
    }
    const progress = before ? furthest(before, job) : further(watched.early, job);
    this.#show(watched, { job: { ...job, progress }, error: null });
  }

  #readLater(watched: Watched): void {
    if (watched.isEnded || this.#isGone(watched)) return;
    if (this.#channel.isConnected) {
      watched.tries = 0;
      if (!watched.isOwn) this.#readIn(watched, watched.isSubscribed ? FOREIGN_MS : BUSY_MS * (1 + Math.random()));
    } else {
      this.#readIn(watched, backoff(watched.tries++, FIRST_POLL_MS, LONGEST_POLL_MS));
    }
  }

  #cannotRead(watched: Watched, error: unknown): void {
    if (isTransient(error)) {
      // Asked again meanwhile: mostly because the connection is back.
      this.#readIn(watched, watched.readAgain ? 0 : backoff(watched.tries++, FIRST_POLL_MS, LONGEST_POLL_MS));
    } else if (!this.#isGone(watched)) this.#show(watched, { job: watched.view.job, error: asCarillonError(error) });
  }
}

function furthest(before: Job, now: Job): Progress | null {
  const isSameAttempt = before.attempt === now.attempt && before.version === now.version;
  return isSameAttempt ? further(before.progress, now) : (now.progress ?? before.progress);
}

/** A reading of a running job may be a little older than the last event about it. */
function further(heard: Progress | null, now: Job): Progress | null {
  if (!heard || isFinal(now.status)) return now.progress ?? heard;
  return now.progress && now.progress.percentage > heard.percentage ? now.progress : heard;
}

function asCarillonError(error: unknown): CarillonError {
  return error instanceof CarillonError ? error : new CarillonError("unexpected", String(error), { cause: error });
}
