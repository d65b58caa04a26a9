/** Everything that this package rejects with. */

import type { ErrorBody, Job } from "./types.js";

/** The root of the errors of this package; `code` is a stable word. */
export class CarillonError extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** The platform refused, over REST or in an acknowledgement. */
export class CarillonApiError extends CarillonError {
  /** The HTTP status. */
  readonly status: number;
  /** Messages by field, where fields were not valid. */
  readonly errors: Readonly<Record<string, string[]>>;
  /** Names the request in the platform's log. */
  readonly requestId: string | null;
  /** Seconds after which another try makes sense; undefined where the platform gave none. */
  readonly retryAfter: number | undefined;

  constructor(body: ErrorBody, retryAfter?: number) {
    super(body.code, body.message);
    this.status = body.status;
    this.errors = body.errors ?? {};
    this.requestId = body.requestId;
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may succeed later. */
  get isTransient(): boolean {
    return this.status === 429 || this.status >= 500;
  }
}

/** The platform could not be reached, or its answer did not come in time. */
export class CarillonConnectionError extends CarillonError {
  constructor(message: string, cause?: unknown) {
    super("connection_failed", message, { cause });
  }
}

/** A job that was waited for failed for good; `code` is the job's own error code. */
export class JobFailedError extends CarillonError {
  readonly job: Job;

  constructor(job: Job) {
    super(job.error?.code ?? "job_failed", job.error?.message ?? `Job ${job.id} failed`);
    this.job = job;
  }
}

/** A job that was waited for was cancelled. */
export class JobCancelledError extends CarillonError {
  readonly job: Job;

  constructor(job: Job) {
    super("job_cancelled", job.cancelReason ?? `Job ${job.id} was cancelled`);
    this.job = job;
  }

  /** Why, if somebody said so. */
  get reason(): string | null {
    return this.job.cancelReason;
  }
}

/** A job did not end within the time given to the wait; it runs on. */
export class JobWaitTimeoutError extends CarillonError {
  /** The job as it was last seen, null if it never was. */
  readonly job: Job | null;

  constructor(jobId: string, milliseconds: number, job: Job | null) {
    super("wait_timeout", `Job ${jobId} has not ended within ${milliseconds} ms`);
    this.job = job;
  }
}

/** Whether another try may help: the network failed, or the platform is busy or away. */
export function isTransient(error: unknown): boolean {
  return error instanceof CarillonConnectionError || (error instanceof CarillonApiError && error.isTransient);
}
