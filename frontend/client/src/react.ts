/** React hooks: live views of jobs, the inbox and the queue, through a client that the page shares. */

import {
  createContext,
  createElement,
  useCallback,
  useContext,
  useEffect,
  useMemo,
  useRef,
  useState,
  useSyncExternalStore,
  type ReactNode,
} from "react";

import type { ConnectionState } from "./channel.js";
import type { CarillonClient } from "./client.js";
import { type CarillonError, JobCancelledError, JobFailedError } from "./errors.js";
import type { QueueUpdate } from "./events.js";
import { InboxList, type InboxView } from "./inbox.js";
import { NO_VIEW, type JobView } from "./jobs.js";
import type { InboxFilter, ReadState, Snooze } from "./notifications.js";
import { isFinal, type Job, type JobStatus, type Notification, type Progress } from "./types.js";

const Context = createContext<CarillonClient | null>(null);

// Strict mode takes every component away once and brings it back: the connection outlives that.
const LINGER_MS = 50;
const users = new WeakMap<CarillonClient, { count: number; closing?: ReturnType<typeof setTimeout> }>();

function use(client: CarillonClient): () => void {
  const using = users.get(client) ?? { count: 0 };
  users.set(client, using);
  using.count++;
  clearTimeout(using.closing);
  client.connect();
  return () => {
    using.count--;
    if (using.count === 0) using.closing = setTimeout(() => client.close(), LINGER_MS);
  };
}

/** Lends `client` to the components within, connected while it is there. */
export function CarillonProvider(props: { client: CarillonClient; children?: ReactNode }): ReactNode {
  const { client, children } = props;
  useEffect(() => use(client), [client]);
  return createElement(Context.Provider, { value: client }, children);
}

/** The client of the nearest CarillonProvider. */
export function useCarillon(): CarillonClient {
  const client = useContext(Context);
  if (!client) throw new Error("There is no CarillonProvider above this component.");
  return client;
}

/** How the connection is. */
export function useConnectionState(): ConnectionState {
  const client = useCarillon();
  const subscribe = useCallback((changed: () => void) => client.on("state", changed), [client]);
  return useSyncExternalStore(
    subscribe,
    () => client.state,
    () => "closed",
  );
}

/** A job as a component sees it. */
export interface UsedJob<Result = unknown> extends JobView<Result> {
  /** Nothing is known of the job yet. */
  readonly isLoading: boolean;
  readonly isConnected: boolean;
}

/** A job, live; with null for an id, no job. However many components use a job, it is subscribed to once. */
export function useJob<Result = unknown>(jobId: string | null | undefined): UsedJob<Result> {
  const client = useCarillon();
  const subscribe = useCallback(
    (changed: () => void) => (jobId ? client.jobs.watch(jobId, changed) : () => undefined),
    [client, jobId],
  );
  const view = useSyncExternalStore(
    subscribe,
    () => (jobId ? client.jobs.view(jobId) : NO_VIEW),
    () => NO_VIEW,
  ) as JobView<Result>;
  const isConnected = useConnectionState() === "connected";
  return useMemo(
    () => ({ ...view, isLoading: Boolean(jobId) && !view.job && !view.error, isConnected }),
    [view, jobId, isConnected],
  );
}

/** How a job goes. */
export interface UsedProgress<Result = unknown> {
  /** What the job said last; null before it said anything. */
  readonly progress: Progress | null;
  /** 0 to 100; 100 once the job has completed. */
  readonly percentage: number;
  /** Null while nothing is known of the job. */
  readonly status: JobStatus | null;
  readonly message: string | null;
  /** Seconds, as far as they can be told. */
  readonly etaSeconds: number | null;
  readonly result: Result | null;
  /** Why the job failed, was cancelled, or cannot be followed. */
  readonly error: CarillonError | null;
  readonly isConnected: boolean;
}

/** The progress of a job, live, and how it ended. */
export function useJobProgress<Result = unknown>(jobId: string | null | undefined): UsedProgress<Result> {
  const { job, error, isConnected } = useJob<Result>(jobId);
  return useMemo(() => {
    const progress = job?.progress ?? null;
    return {
      progress,
      percentage: job?.status === "completed" ? 100 : (progress?.percentage ?? 0),
      status: job?.status ?? null,
      message: progress?.message ?? null,
      etaSeconds: job && isFinal(job.status) ? null : (progress?.etaSeconds ?? null),
      result: job?.result ?? null,
      error: error ?? failureOf(job),
      isConnected,
    };
  }, [job, error, isConnected]);
}

function failureOf(job: Job | null): CarillonError | null {
  if (job?.status === "failed") return new JobFailedError(job);
  return job?.status === "cancelled" ? new JobCancelledError(job) : null;
}

/** The inbox as a component sees it. */
export interface UsedInbox extends InboxView {
  readonly unreadCount: number | null;
  loadMore(): Promise<void>;
  refresh(): Promise<void>;
  markRead(notificationId: string): Promise<ReadState>;
  markUnread(notificationId: string): Promise<ReadState>;
  /** How many were marked. */
  markAllRead(): Promise<number>;
  archive(notificationId: string): Promise<Notification>;
  unarchive(notificationId: string): Promise<Notification>;
  snooze(notificationId: string, snooze: Snooze): Promise<Notification>;
  unsnooze(notificationId: string): Promise<Notification>;
  /** Press a button; who is first settles the matter, for all others it fails with `already_resolved`. */
  act(notificationId: string, key: string): Promise<Notification>;
  remove(notificationId: string): Promise<void>;
}

/** The inbox, live, newest first, in pages of `limit`; what other devices do to it shows here too. */
export function useNotifications(options: InboxFilter & { limit?: number } = {}): UsedInbox {
  const { notifications } = useCarillon();
  const { limit = 20, ...filter } = options;
  // By what it says: a component gives a new object each time.
  const wanted = JSON.stringify(filter);
  const inbox = useMemo(
    () => new InboxList(notifications, JSON.parse(wanted) as InboxFilter, limit),
    [notifications, wanted, limit],
  );
  const subscribe = useCallback((changed: () => void) => inbox.watch(changed), [inbox]);
  const look = () => inbox.view;
  const view = useSyncExternalStore(subscribe, look, look);
  const unreadCount = useUnreadCount();
  const actions = useMemo(
    () => ({
      loadMore: () => inbox.loadMore(),
      refresh: () => inbox.refresh(),
      markRead: (id: string) => inbox.markRead(id),
      markUnread: (id: string) => inbox.markUnread(id),
      markAllRead: () => inbox.markAllRead(),
      archive: (id: string) => inbox.archive(id),
      unarchive: (id: string) => inbox.unarchive(id),
      snooze: (id: string, snooze: Snooze) => inbox.snooze(id, snooze),
      unsnooze: (id: string) => inbox.unsnooze(id),
      act: (id: string, key: string) => inbox.act(id, key),
      remove: (id: string) => inbox.remove(id),
    }),
    [inbox],
  );
  return useMemo(() => ({ ...view, unreadCount, ...actions }), [view, unreadCount, actions]);
}

/** How many notifications are unread; null before it is known. It never goes back to what was told before. */
export function useUnreadCount(): number | null {
  const { notifications } = useCarillon();
  const subscribe = useCallback((changed: () => void) => notifications.watchUnread(changed), [notifications]);
  return useSyncExternalStore(
    subscribe,
    () => notifications.unread,
    () => null,
  );
}

const UPDATES_KEPT = 100;

/** The last update of each job of the queue, the newest first; every single one goes to `onUpdate`. */
export function useQueueUpdates(onUpdate?: (update: QueueUpdate) => void): readonly QueueUpdate[] {
  const { queue } = useCarillon();
  const [updates, setUpdates] = useState<readonly QueueUpdate[]>([]);
  const latest = useRef(onUpdate);
  useEffect(() => {
    latest.current = onUpdate;
  });
  useEffect(
    () =>
      queue.on("queue-update", (update) => {
        latest.current?.(update);
        setUpdates((before) =>
          [update, ...before.filter(({ jobId }) => jobId !== update.jobId)].slice(0, UPDATES_KEPT),
        );
      }),
    [queue],
  );
  return updates;
}
