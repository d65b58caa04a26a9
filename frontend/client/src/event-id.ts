/** The numbers of events: sequences within one epoch compare, epochs do not. */

export interface EventId {
  epoch: string;
  seq: number;
}

/** The number that an event carries; undefined for what is none. */
export function parseEventId(text: unknown): EventId | undefined {
  const found = typeof text === "string" ? /^(\d{1,16})-(\d{1,16})$/.exec(text) : null;
  return found ? { epoch: found[1]!, seq: Number(found[2]) } : undefined;
}

/** The number as the platform writes it. */
export function formatEventId({ epoch, seq }: EventId): string {
  return `${epoch}-${seq}`;
}

/**
 * The place of a client in the event log of its user.
 *
 * A number may stand for several messages of a namespace; `completes` tells by its name whether a message is the last
 * of them. After any other one the number before it is what is surely known.
 */
export class Place {
  readonly #completes: (name: string) => boolean;
  #last: EventId | undefined;
  // Names of the messages heard of that number; none where the platform said that it is known.
  #names = new Set<string>();
  #isWhole = true;
  #isDistrusted = false;

  constructor(completes: (name: string) => boolean) {
    this.#completes = completes;
  }

  /** What to tell the platform after an absence; undefined where nothing is known yet. */
  get known(): string | undefined {
    if (!this.#last) return undefined;
    const { epoch, seq } = this.#last;
    return formatEventId({ epoch, seq: this.#isWhole ? seq : seq - 1 });
  }

  /** Go on to a message; false if it was heard before. */
  advance(id: EventId, name: string): boolean {
    const order = this.#order(id);
    if (order < 0 || (order === 0 && (this.#names.size === 0 || this.#names.has(name)))) return false;
    if (order > 0) this.#go(id);
    this.#names.add(name);
    this.#isWhole = this.#completes(name);
    return true;
  }

  /** All up to this number is known, as the platform says at the start of a connection. */
  reach(id: EventId): void {
    if (this.#order(id) > 0) this.#go(id);
  }

  /** The log no longer goes on from here: whatever number comes next is the new place. */
  distrust(): void {
    this.#isDistrusted = true;
  }

  /** Another user's log begins. */
  forget(): void {
    this.#last = undefined;
  }

  /** Less than nought: before this place. A number of another epoch is always a new one. */
  #order(id: EventId): number {
    if (this.#isDistrusted || this.#last?.epoch !== id.epoch) return 1;
    return id.seq - this.#last.seq;
  }

  #go(id: EventId): void {
    this.#last = id;
    this.#names = new Set();
    this.#isWhole = true;
    this.#isDistrusted = false;
  }
}
