/** The client of Carillon: see docs/clients/javascript.md in Carillon's repository. */

export type { ConnectionState, StateEvents } from "./channel.js";
export { CarillonClient, createClient } from "./client.js";
export type { ClientOptions, SubmitExtras } from "./client.js";
export {
  CarillonApiError,
  CarillonConnectionError,
  CarillonError,
  JobCancelledError,
  JobFailedError,
  JobWaitTimeoutError,
} from "./errors.js";
export type * from "./events.js";
export type { InboxView } from "./inbox.js";
export { InboxList } from "./inbox.js";
export type { JobView } from "./jobs.js";
export type { InboxFilter, Notifications, ReadState, Snooze } from "./notifications.js";
export type { RequestOptions } from "./rest.js";
export type { GetToken, Identity, TokenReason } from "./tokens.js";
export { isFinal } from "./types.js";
export type * from "./types.js";
export type { JobCallbacks, WaitOptions } from "./wait.js";
