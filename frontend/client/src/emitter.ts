/** Typed listeners. */

export type Listener<Data> = (data: Data) => void;

/** A listener that threw: the others are called all the same, and the error surfaces as an uncaught one. */
function surface(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}

/** Calls listeners by the name of an event, in the order in which they were added. */
export class Emitter<Events extends object> {
  readonly #listeners = new Map<PropertyKey, Set<Listener<never>>>();

  /** Hear an event; returns what stops that. */
  on<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): () => void {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(listener));
    return () => this.off(name, listener);
  }

  /** Hear an event no more. */
  off<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): void {
    const listeners = this.#listeners.get(name);
    listeners?.delete(listener);
    if (listeners?.size === 0) this.#listeners.delete(name);
  }

  /** Whether anybody hears anything. */
  get isHeard(): boolean {
    return this.#listeners.size > 0;
  }

  /** Tell all who hear an event. */
  emit<Name extends keyof Events>(name: Name, data: Events[Name]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        (listener as Listener<Events[Name]>)(data);
      } catch (error) {
        surface(error);
      }
    }
  }
}
