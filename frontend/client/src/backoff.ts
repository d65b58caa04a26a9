/** Waiting between tries. */

/** The wait before try number `tries` (from 0): doubles from `first` up to `cap` milliseconds, less up to a half. */
export function backoff(tries: number, first: number, cap: number): number {
  return Math.min(cap, first * 2 ** tries) * (1 - Math.random() / 2);
}

/** Resolves after a time, rejects with the signal's reason when that comes first. */
export function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}
