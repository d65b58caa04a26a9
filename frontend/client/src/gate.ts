/** Lets a few tasks through at once. */

/** Tasks wait their turn, first come, first served. */
export class Gate {
  readonly #width: number;
  readonly #waiting: (() => void)[] = [];
  #inside = 0;

  constructor(width: number) {
    this.#width = width;
  }

  /** Run a task when it is its turn. */
  async run<Result>(task: () => Promise<Result>): Promise<Result> {
    if (this.#inside >= this.#width) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#inside++;
    try {
      return await task();
    } finally {
      const next = this.#waiting.shift();
      // The place passes on at once: who is admitted goes on only in a later turn of the event loop.
      if (next) next();
      else this.#inside--;
    }
  }
}
