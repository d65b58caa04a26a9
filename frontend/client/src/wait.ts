/** Waiting for the end of a job. */

import { JobCancelledError, JobFailedError, JobWaitTimeoutError, type CarillonError } from "./errors.js";
import type { JobStore } from "./jobs.js";
import { isFinal, type Job, type Progress } from "./types.js";

/** What a wait takes. */
export interface WaitOptions {
  /** Milliseconds; for ever if not given. */
  timeout?: number;
  signal?: AbortSignal;
  onProgress?: (progress: Progress, job: Job) => void;
}

/** What is told of a job; each is optional. */
export interface JobCallbacks<Result = unknown> {
  /** At every change, first with the job as it is now. */
  onChange?: (job: Job<Result>) => void;
  onProgress?: (progress: Progress, job: Job<Result>) => void;
  onCompleted?: (result: Result, job: Job<Result>) => void;
  onFailed?: (error: JobFailedError) => void;
  onCancelled?: (error: JobCancelledError) => void;
  /** The job cannot be followed: there is none, or it is somebody else's. */
  onError?: (error: CarillonError) => void;
}

/** Tell `callbacks` of a job, from its present state on, until the returned function is called. */
export function subscribeJob<Result>(
  jobs: JobStore,
  jobId: string,
  callbacks: JobCallbacks<Result>,
): () => void {
  let told: Job<Result> | null = null;
  let toldError: CarillonError | null = null;
  const look = () => {
    const { job, error } = jobs.view(jobId) as { job: Job<Result> | null; error: CarillonError | null };
    const before = told;
    told = job;
    if (error && error !== toldError) callbacks.onError?.(error);
    toldError = error;
    if (!job || job === before) return;
    callbacks.onChange?.(job);
    if (job.progress && job.progress !== before?.progress) callbacks.onProgress?.(job.progress, job);
    if (before && before.status === job.status) return;
    if (job.status === "completed") callbacks.onCompleted?.(job.result as Result, job);
    else if (job.status === "failed") callbacks.onFailed?.(new JobFailedError(job));
    else if (job.status === "cancelled") callbacks.onCancelled?.(new JobCancelledError(job));
  };
  const unwatch = jobs.watch(jobId, look);
  let isStopped = false;
  // What others who watch the job know already, but not before the caller has the function that stops it.
  queueMicrotask(() => {
    if (!isStopped) look();
  });
  return () => {
    isStopped = true;
    unwatch();
  };
}

/**
 * The result of a job once it has completed.
 *
 * Rejects with JobFailedError, JobCancelledError, JobWaitTimeoutError, the signal's reason, or CarillonApiError where
 * the job cannot be read. The job itself is not touched by a wait that ends early.
 */
export function waitForJob<Result>(jobs: JobStore, jobId: string, options: WaitOptions): Promise<Result> {
  const { timeout, signal, onProgress } = options;
  return new Promise<Result>((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason as Error);
      return;
    }
    const end = (settle: () => void) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      unsubscribe();
      settle();
    };
    const abort = () => end(() => reject(signal?.reason as Error));
    const unsubscribe = subscribeJob<Result>(jobs, jobId, {
      ...(onProgress ? { onProgress: (progress, job) => !isFinal(job.status) && onProgress(progress, job) } : {}),
      onCompleted: (result) => end(() => resolve(result)),
      onFailed: (error) => end(() => reject(error)),
      onCancelled: (error) => end(() => reject(error)),
      onError: (error) => end(() => reject(error)),
    });
    const timer =
      timeout === undefined
        ? undefined
        : setTimeout(() => {
            end(() => reject(new JobWaitTimeoutError(jobId, timeout, jobs.view(jobId).job)));
          }, timeout);
    signal?.addEventListener("abort", abort, { once: true });
  });
}
