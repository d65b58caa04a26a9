/** What travels between the platform and its clients, in the words of the platform's contract. */

/** Every status a job can have; the last three are final. */
export type JobStatus =
  | "scheduled"
  | "blocked"
  | "queued"
  | "active"
  | "retrying"
  | "completed"
  | "failed"
  | "cancelled";

/** Statuses, and the older words that filters also take. */
export type JobStatusFilter = JobStatus | "waiting" | "delayed" | "pending" | "processing";

/** How far a job has come; `percentage` is 0 to 100. */
export interface Progress {
  current: number;
  total: number;
  percentage: number;
  message?: string;
  detail?: string;
  etaSeconds?: number;
}

/** Why a job failed. */
export interface JobError {
  code: string;
  message: string;
  retryable: boolean;
}

/** A job; times are ISO 8601 in UTC. */
export interface Job<Result = unknown> {
  id: string;
  type: string;
  name: string;
  status: JobStatus;
  priority: number;
  queue: string;
  attempt: number;
  maxAttempts: number;
  progress: Progress | null;
  result: Result | null;
  error: JobError | null;
  tags: string[];
  uniqueKey: string | null;
  scheduleId: string | null;
  workflowId: string | null;
  parentId: string | null;
  queuePosition?: number;
  estimatedWaitSeconds?: number;
  createdAt: string;
  scheduledAt: string | null;
  startedAt: string | null;
  completedAt: string | null;
  nextAttemptAt: string | null;
  cancelReason: string | null;
  /** True: its result is for its owner only, and read over REST. */
  sensitive?: boolean;
  version: number;
}

/** What it means that another job holds the `singletonKey`. */
export interface UniqueOptions {
  mode?: "reject" | "existing" | "replace" | "debounce" | "throttle";
  /** Seconds. */
  period?: number;
  states?: JobStatus[];
}

/** How a job is to run, where it should differ from its type; durations are seconds. */
export interface JobOptions {
  /** 0 to 100. */
  priority?: number;
  delay?: number;
  /** ISO 8601 with a time zone. */
  runAt?: string;
  retryLimit?: number;
  retryDelay?: number;
  retryBackoff?: boolean;
  retryStrategy?: "exponential" | "linear" | "fixed";
  timeout?: number;
  expireInSeconds?: number;
  singletonKey?: string;
  unique?: UniqueOptions;
  queue?: string;
  concurrencyKey?: string;
  tags?: string[];
  dependsOn?: (string | { jobId: string; onFailure?: "cancel" | "continue" | "fail" })[];
  /** False: the inbox hears nothing of the job. */
  notify?: boolean;
}

/** A job to be run. */
export interface Submission {
  type: string;
  name?: string;
  payload?: Record<string, unknown>;
  options?: JobOptions;
}

/** What lists of jobs can be narrowed down to; `since` and `until` are ISO 8601 with a time zone. */
export interface JobFilter {
  status?: JobStatusFilter;
  type?: string;
  tag?: string;
  queue?: string;
  scheduleId?: string;
  since?: string;
  until?: string;
  q?: string;
}

/** Which page of a list: by number, or what follows `cursor`. */
export interface PageRequest {
  page?: number;
  /** At most 100. */
  limit?: number;
  cursor?: string;
}

/** Where a page lies in its list; after a cursor nothing is counted. */
export interface Pagination {
  page: number | null;
  limit: number;
  total: number | null;
  totalPages: number | null;
  totalIsEstimate?: boolean;
  nextCursor?: string | null;
}

/** A page of a list. */
export interface Page<Item> {
  data: Item[];
  pagination: Pagination;
}

/** A button of a notification: a link to follow, or something that the platform does when it is pressed. */
export interface NotificationAction {
  key: string;
  label: string;
  kind: "link" | "action";
  url?: string;
  /** How it may look, for example `primary` or `danger`. */
  style?: string;
}

/** An entry of the inbox. */
export interface Notification {
  id: string;
  type: string;
  category: string;
  title: string;
  message: string;
  data: Record<string, unknown>;
  actions: NotificationAction[] | null;
  /** The key of the action that settled the matter. */
  resolution: string | null;
  read: boolean;
  readAt: string | null;
  archived: boolean;
  archivedAt: string | null;
  snoozedUntil: string | null;
  expiresAt: string | null;
  sendId: string | null;
  createdAt: string;
}

/** A page of the inbox, with the unread count of the whole. */
export interface Inbox extends Page<Notification> {
  unreadCount: number;
  /** Grows with each change: of two counts the one with the higher is newer. */
  unreadVersion: number;
}

/** A user's own account. */
export interface Account {
  id: string;
  username: string;
  email: string;
  roles: string[];
  [more: string]: unknown;
}

/** What a log-in gives; `expiresIn` is the life of the access token in seconds. */
export interface Session {
  accessToken: string;
  refreshToken: string;
  expiresIn: number;
  user: Account;
}

/** The shape of every error of the platform, over REST and in acknowledgements. */
export interface ErrorBody {
  code: string;
  message: string;
  status: number;
  errors?: Record<string, string[]>;
  requestId: string | null;
}

const FINAL: ReadonlySet<string> = new Set<JobStatus>(["completed", "failed", "cancelled"]);

/** Whether a job with this status has ended. */
export function isFinal(status: JobStatus): boolean {
  return FINAL.has(status);
}
