/** The inbox: over REST, and by its events. */

import type { Channel, StateEvents } from "./channel.js";
import type { Listener } from "./emitter.js";
import type { InboxEvents, UnreadCount } from "./events.js";
import type { Rest } from "./rest.js";
import type { Inbox, Notification, PageRequest } from "./types.js";

/** What the inbox can be narrowed down to; `since` and `until` are ISO 8601 with a time zone. */
export interface InboxFilter {
  unread?: boolean;
  type?: string;
  category?: string;
  /** Those that were put away, instead. */
  archived?: boolean;
  /** Those that were put off, instead. */
  snoozed?: boolean;
  since?: string;
  until?: string;
}

/** Until when (ISO 8601 with a time zone), or for how long, a notification is put off. */
export type Snooze = { until: string } | { seconds: number };

/** Whether a notification is read. */
export interface ReadState {
  id: string;
  read: boolean;
  readAt: string | null;
}

type Events = InboxEvents & StateEvents;

/** The notifications of the user. Their events come while somebody listens. */
export class Notifications {
  readonly #rest: Rest;
  readonly #channel: Channel<InboxEvents>;
  readonly #counter: UnreadCounter;

  constructor(rest: Rest, channel: Channel<InboxEvents>) {
    this.#rest = rest;
    this.#channel = channel;
    this.#counter = new UnreadCounter(channel, () =>
      rest.request("GET", "/api/notifications/unread-count", { repeatable: true }),
    );
  }

  /** A page of the inbox, newest first. */
  list(request: InboxFilter & PageRequest = {}): Promise<Inbox> {
    return this.#rest.request("GET", "/api/notifications", { query: request, repeatable: true });
  }

  markRead(notificationId: string): Promise<ReadState> {
    return this.#change("PATCH", `/${encodeURIComponent(notificationId)}/read`);
  }

  markUnread(notificationId: string): Promise<ReadState> {
    return this.#change("PATCH", `/${encodeURIComponent(notificationId)}/unread`);
  }

  /** How many were marked. */
  async markAllRead(): Promise<number> {
    return (await this.#change<{ count: number }>("PATCH", "/read-all")).count;
  }

  archive(notificationId: string): Promise<Notification> {
    return this.#change("PATCH", `/${encodeURIComponent(notificationId)}/archive`);
  }

  unarchive(notificationId: string): Promise<Notification> {
    return this.#change("PATCH", `/${encodeURIComponent(notificationId)}/unarchive`);
  }

  snooze(notificationId: string, snooze: Snooze): Promise<Notification> {
    return this.#change("PATCH", `/${encodeURIComponent(notificationId)}/snooze`, snooze);
  }

  unsnooze(notificationId: string): Promise<Notification> {
    return this.#change("PATCH", `/${encodeURIComponent(notificationId)}/unsnooze`);
  }

  /** Press a button; who is first settles the matter, for all others it fails with `already_resolved`. */
  act(notificationId: string, key: string): Promise<Notification> {
    return this.#change("POST", `/${encodeURIComponent(notificationId)}/actions/${encodeURIComponent(key)}`);
  }

  async remove(notificationId: string): Promise<void> {
    await this.#change("DELETE", `/${encodeURIComponent(notificationId)}`);
  }

  /** How many are unread now. */
  unreadCount(): Promise<number> {
    return this.#counter.read();
  }

  /** Call `listener` whenever `unread` changes, until the returned function is called. */
  watchUnread(listener: () => void): () => void {
    return this.#counter.watch(listener);
  }

  /** How many are unread, as far as is known to those who watch it; null before the first answer. */
  get unread(): number | null {
    return this.#counter.count;
  }

  /** Hear an event of the namespace `/notifications`; returns what stops that. */
  on<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): () => void {
    return this.#channel.on(name, listener);
  }

  off<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): void {
    this.#channel.off(name, listener);
  }

  /** Whether events come. */
  get isConnected(): boolean {
    return this.#channel.isConnected;
  }

  /** Forget what is known: somebody else uses the client. */
  forget(): void {
    this.#counter.forget();
  }

  async #change<Answer>(method: string, path: string, body?: unknown): Promise<Answer> {
    const answer = await this.#rest.request<Answer>(method, `/api/notifications${path}`, body ? { body } : {});
    this.#counter.changed();
    return answer;
  }
}

/** The unread count: of two, the one with the greater version holds. */
class UnreadCounter {
  #known: UnreadCount | null = null;
  readonly #channel: Channel<InboxEvents>;
  readonly #ask: () => Promise<UnreadCount>;
  readonly #listeners = new Set<() => void>();
  #off: (() => void)[] = [];

  constructor(channel: Channel<InboxEvents>, ask: () => Promise<UnreadCount>) {
    this.#channel = channel;
    this.#ask = ask;
  }

  get count(): number | null {
    return this.#known?.count ?? null;
  }

  watch(listener: () => void): () => void {
    const own = () => listener();
    this.#listeners.add(own);
    if (this.#listeners.size === 1) this.#begin();
    return () => {
      if (this.#listeners.delete(own) && this.#listeners.size === 0) this.#off.forEach((off) => off());
    };
  }

  async read(): Promise<number> {
    this.#take(await this.#ask());
    return this.count!;
  }

  /** Something was changed from here: where events come, one of them will tell. */
  changed(): void {
    if (this.#listeners.size && !this.#channel.isConnected) this.#readQuietly();
  }

  forget(): void {
    this.#known = null;
    this.#tell();
  }

  #begin(): void {
    this.#off = [
      this.#channel.on("unread-count", (told) => this.#take(told)),
      this.#channel.on("gap", () => this.#readQuietly()),
    ];
    this.#readQuietly();
  }

  #take(told: UnreadCount): void {
    if (this.#known && told.version <= this.#known.version) return;
    const before = this.count;
    this.#known = told;
    if (told.count !== before) this.#tell();
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  // An error of the network passes: the platform tells the count at the start of each connection.
  #readQuietly(): void {
    this.read().catch(() => undefined);
  }
}
