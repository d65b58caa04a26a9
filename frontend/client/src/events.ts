/** Every event that a client can hear, by namespace. */

import type { Job, JobStatus, Notification, Progress } from "./types.js";

/** The number of an event, `<epoch>-<seq>`. */
export interface Numbered {
  eventId: string;
}

/** What was missed during an absence has been told, or cannot be. */
export type Resumed = { recovered: true; count: number } | { recovered: false };

/** Events were lost: what the application shows has to be read again, once. */
export interface Gap {
  namespace: string;
}

/** What every namespace says besides its own events. */
export interface ConnectionEvents {
  authenticated: { userId: string; lastEventId?: string | null };
  "auth:expiring": { expiresInSeconds: number };
  resumed: Resumed;
  /** Of this client: `resumed {recovered: false}` came, or a connection began where nobody knows what was missed. */
  gap: Gap;
}

export interface JobProgressed extends Numbered {
  jobId: string;
  jobName: string;
  progress: Progress;
  percentage: number;
}

export interface JobCompleted extends Numbered {
  jobId: string;
  jobName: string;
  result: unknown;
  /** True: the result was too large to be sent along, and is read over REST. */
  resultTruncated?: boolean;
}

export interface JobFailed extends Numbered {
  jobId: string;
  jobName: string;
  error: string;
  errorCode: string;
  attempt: number;
  maxAttempts: number;
  canRetry: boolean;
}

export interface JobRetrying extends Numbered {
  jobId: string;
  jobName: string;
  error: string;
  attempt: number;
  maxAttempts: number;
  nextAttemptAt: string | null;
}

export interface JobCancelled extends Numbered {
  jobId: string;
  jobName: string;
  reason: string | null;
}

export interface JobStatusChanged extends Numbered {
  jobId: string;
  status: JobStatus;
  progress: Progress | null;
}

/** For operators. */
export interface QueueStats {
  pending: number;
  processing: number;
  perQueue: Record<string, unknown>;
  ratePerMinute: number;
}

/** The default namespace. */
export interface ClientEvents extends ConnectionEvents {
  "job:created": Job & Numbered & { jobId?: string };
  "job:started": Job & Numbered & { jobId?: string };
  "job:progress": JobProgressed;
  "job:completed": JobCompleted;
  "job:failed": JobFailed;
  "job:retrying": JobRetrying;
  "job:cancelled": JobCancelled;
  "job:status": JobStatusChanged;
  notification: Notification & Numbered;
  "notification:read": InboxChange;
  "notification:unread": InboxChange;
  "notification:deleted": InboxChange;
  "notification:updated": Notification & Numbered;
  "queue:stats": QueueStats;
  /** Of jobs that were subscribed to. */
  [progress: `job:${string}:progress`]: { jobId: string; progress: number; details: Progress };
  [completed: `job:${string}:completed`]: { jobId: string; result: unknown; resultTruncated?: boolean };
  [failed: `job:${string}:failed`]: { jobId: string; error: string };
}

interface UpdateOf<EventType extends string> extends Numbered {
  eventType: EventType;
  jobId: string;
  jobType: string;
  userId: string;
  progress: number;
  stage: string;
  timestamp: string;
}

/** What `queue-update` says; `eventType` tells which of them. */
export type QueueUpdate =
  | (UpdateOf<"job-queued"> & { queuePosition: number | null; estimatedWaitSeconds: number | null })
  | UpdateOf<"job-started">
  | UpdateOf<"job-progress">
  | (UpdateOf<"job-completed"> & { result: unknown; resultTruncated?: boolean })
  | (UpdateOf<"job-failed"> & { error: { message: string; code: string } })
  | (UpdateOf<"job-cancelled"> & { reason: string | null });

/** The namespace `/queue`. */
export interface QueueEvents extends ConnectionEvents {
  "queue-update": QueueUpdate;
}

/** A change of the inbox by another device; an `id` of null stands for all of it. */
export interface InboxChange extends Numbered {
  id: string | null;
}

/** The unread count; of two, the one with the greater version holds. */
export interface UnreadCount extends Partial<Numbered> {
  count: number;
  version: number;
}

/** The namespace `/notifications`. */
export interface InboxEvents extends ConnectionEvents {
  notification: Notification & Numbered;
  "notification:read": InboxChange;
  "notification:unread": InboxChange;
  "notification:deleted": InboxChange;
  "notification:updated": Notification & Numbered;
  "unread-count": UnreadCount;
}
