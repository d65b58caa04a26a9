/** A list of notifications that stays as the inbox is. */

import { CarillonError } from "./errors.js";
import type { InboxFilter, Notifications, ReadState, Snooze } from "./notifications.js";
import type { Notification } from "./types.js";

/** What is known of the list; a new object at every change. */
export interface InboxView {
  readonly notifications: readonly Notification[];
  readonly isLoading: boolean;
  /** Whether `loadMore()` will find older ones. */
  readonly hasMore: boolean;
  readonly error: CarillonError | null;
}

type Change = (notifications: readonly Notification[]) => readonly Notification[];

/** The newest notifications that pass a filter, live. */
export class InboxList {
  view: InboxView = { notifications: [], isLoading: true, hasMore: false, error: null };
  readonly #source: Notifications;
  readonly #filter: InboxFilter;
  readonly #limit: number;
  readonly #listeners = new Set<() => void>();
  #off: (() => void)[] = [];
  #cursor: string | null = null;
  // What happened while a page was on its way is done to the page too.
  #changes: Change[] = [];
  #reading = 0;

  constructor(source: Notifications, filter: InboxFilter, limit: number) {
    this.#source = source;
    this.#filter = filter;
    this.#limit = limit;
  }

  /** Keep the list up to date and call `listener` after each change, until the returned function is called. */
  watch(listener: () => void): () => void {
    const own = () => listener();
    this.#listeners.add(own);
    if (this.#listeners.size === 1) this.#begin();
    return () => {
      if (this.#listeners.delete(own) && this.#listeners.size === 0) this.#end();
    };
  }

  /** Read the first page anew. */
  refresh(): Promise<void> {
    this.#cursor = null;
    return this.#load(() => []);
  }

  async markRead(notificationId: string): Promise<ReadState> {
    return this.#marked(await this.#source.markRead(notificationId));
  }

  async markUnread(notificationId: string): Promise<ReadState> {
    return this.#marked(await this.#source.markUnread(notificationId));
  }

  /** How many were marked, on every page. */
  async markAllRead(): Promise<number> {
    const count = await this.#source.markAllRead();
    this.#mark(null, new Date().toISOString());
    return count;
  }

  async archive(notificationId: string): Promise<Notification> {
    return this.#updated(await this.#source.archive(notificationId));
  }

  async unarchive(notificationId: string): Promise<Notification> {
    return this.#updated(await this.#source.unarchive(notificationId));
  }

  async snooze(notificationId: string, snooze: Snooze): Promise<Notification> {
    return this.#updated(await this.#source.snooze(notificationId, snooze));
  }

  async unsnooze(notificationId: string): Promise<Notification> {
    return this.#updated(await this.#source.unsnooze(notificationId));
  }

  async act(notificationId: string, key: string): Promise<Notification> {
    return this.#updated(await this.#source.act(notificationId, key));
  }

  async remove(notificationId: string): Promise<void> {
    await this.#source.remove(notificationId);
    this.#drop(notificationId);
  }

  /** Read the next older page. */
  async loadMore(): Promise<void> {
    if (this.#cursor === null || this.view.isLoading) return;
    this.#show({ isLoading: true });
    await this.#load((loaded) => loaded);
  }

  #begin(): void {
    const source = this.#source;
    this.#off = [
      source.on("notification", ({ eventId: _, ...notification }) => this.#arrive(notification)),
      source.on("notification:read", ({ id }) => this.#mark(id, new Date().toISOString())),
      source.on("notification:unread", ({ id }) => this.#mark(id, null)),
      source.on("notification:deleted", ({ id }) => this.#drop(id)),
      source.on("notification:updated", ({ eventId: _, ...notification }) => void this.#updated(notification)),
      source.on("gap", () => void this.refresh()),
      // What came between the first reading and the connection was told to nobody.
      source.on("state", (state) => state === "connected" && void this.refresh()),
    ];
    void this.refresh();
  }

  #end(): void {
    this.#off.forEach((off) => off());
    this.#reading++;
  }

  #drop(id: string | null): void {
    this.#do((all) => all.filter((each) => id !== null && each.id !== id));
  }

  #arrive(notification: Notification): void {
    if (!this.#belongs(notification)) return;
    this.#do((all) => (all.some(({ id }) => id === notification.id) ? all : [notification, ...all]));
  }

  #belongs(notification: Notification): boolean {
    const { type, category, unread, archived = false, snoozed = false, since, until } = this.#filter;
    const created = Date.parse(notification.createdAt);
    return (
      (type === undefined || type === notification.type) &&
      (category === undefined || category === notification.category) &&
      (unread === undefined || unread !== notification.read) &&
      archived === notification.archived &&
      snoozed === (notification.snoozedUntil !== null) &&
      (since === undefined || created >= Date.parse(since)) &&
      (until === undefined || created < Date.parse(until))
    );
  }

  #updated(notification: Notification): Notification {
    const { id } = notification;
    const belongs = this.#belongs(notification);
    this.#do((all) => {
      if (!belongs) return all.filter((each) => each.id !== id);
      if (all.some((each) => each.id === id)) return all.map((each) => (each.id === id ? notification : each));
      // Ids sort by time; what is older than all that was read comes with its page.
      const place = all.findIndex((each) => each.id < id);
      if (place >= 0) return [...all.slice(0, place), notification, ...all.slice(place)];
      return this.view.hasMore ? all : [...all, notification];
    });
    return notification;
  }

  #marked(state: ReadState): ReadState {
    this.#mark(state.id, state.readAt);
    return state;
  }

  #mark(id: string | null, readAt: string | null): void {
    const read = readAt !== null;
    this.#do((all) => {
      const marked = all.map((each) =>
        (id === null || each.id === id) && each.read !== read ? { ...each, read, readAt } : each,
      );
      return this.#filter.unread === undefined ? marked : marked.filter((each) => each.read !== this.#filter.unread);
    });
  }

  #do(change: Change): void {
    this.#changes.push(change);
    this.#show({ notifications: change(this.view.notifications) });
  }

  #show(change: Partial<InboxView>): void {
    this.view = { ...this.view, ...change };
    for (const listener of [...this.#listeners]) listener();
  }

  async #load(kept: Change): Promise<void> {
    const reading = ++this.#reading;
    this.#changes = [];
    try {
      const cursor = this.#cursor === null ? {} : { cursor: this.#cursor };
      const page = await this.#source.list({ ...this.#filter, ...cursor, limit: this.#limit });
      if (reading !== this.#reading) return;
      this.#cursor = page.pagination.nextCursor ?? null;
      const before = kept(this.view.notifications);
      const known = new Set(before.map(({ id }) => id));
      const together = [...before, ...page.data.filter(({ id }) => !known.has(id))];
      const notifications = this.#changes.reduce((all: readonly Notification[], change) => change(all), together);
      this.#show({ notifications, isLoading: false, hasMore: this.#cursor !== null, error: null });
    } catch (error) {
      if (reading !== this.#reading) return;
      const why = error instanceof CarillonError ? error : new CarillonError("unexpected", String(error));
      this.#show({ isLoading: false, error: why });
    }
  }
}
