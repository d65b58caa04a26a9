"""Domain event → the names of each socket contract, in one table for each namespace.

A message of the default namespace to its owner has a number of its own, so an entry takes as many numbers as the
default namespace has messages for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Entry = Mapping[str, Any]

DEFAULT = "/"
QUEUE = "/queue"
NOTIFICATIONS = "/notifications"
NAMESPACES = (DEFAULT, QUEUE, NOTIFICATIONS)


class Message(NamedTuple):
    """An event as clients hear it."""

    name: str
    data: dict[str, Any]


Speak = Callable[[Entry], Message]


def user_room(user_id: str) -> str:
    """The room of all sockets of a user."""
    return f"user:{user_id}"


def job_room(job_id: str) -> str:
    """The room of the sockets that subscribed to a job."""
    return f"job:{job_id}"


def width(entry: Entry) -> int:
    """How many numbers an entry takes."""
    return len(TABLE[DEFAULT][entry["event"]])


def numbered(namespace: str, entry: Entry, last: int) -> Iterator[tuple[int, Message]]:
    """What the owner of an entry hears in a namespace, in order, each with its number; `last` is the entry's last one.

    Beyond the default namespace all messages of an entry have that one.
    """
    # During a deploy a newer process may tell what this one has no words for.
    speakers = TABLE[namespace].get(entry["event"], ())
    first = last - len(speakers) + 1 if namespace == DEFAULT else last
    for place, speak in enumerate(speakers):
        yield (first + place if namespace == DEFAULT else last), speak(entry)


def to_job_room(entry: Entry) -> Message | None:
    """What those hear who subscribed to the job of an entry."""
    speak = JOB_ROOM.get(entry["event"])
    return None if speak is None else speak(entry)


# The default namespace (S0, S1, S2)


def _about(entry: Entry) -> dict[str, Any]:
    return {"jobId": entry["job"]["id"], "jobName": entry["job"]["name"]}


def _status(entry: Entry) -> Message:
    job = entry["job"]
    return Message("job:status", {"jobId": job["id"], "status": job["status"], "progress": job["progress"]})


def _job(entry: Entry) -> dict[str, Any]:
    # By the name that all other events call it by, too: S2's components look for no other.
    return {**entry["job"], "jobId": entry["job"]["id"]}


def _created(entry: Entry) -> Message:
    return Message("job:created", _job(entry))


def _started(entry: Entry) -> Message:
    return Message("job:started", _job(entry))


def _progressed(entry: Entry) -> Message:
    progress = entry["progress"]
    return Message("job:progress", {**_about(entry), "progress": progress, "percentage": progress["percentage"]})


def _retrying(entry: Entry) -> Message:
    job = entry["job"]
    return Message(
        "job:retrying",
        {
            **_about(entry),
            "error": job["error"]["message"],
            "attempt": job["attempt"],
            "maxAttempts": job["maxAttempts"],
            "nextAttemptAt": job["nextAttemptAt"],
        },
    )


def _result(entry: Entry) -> dict[str, Any]:
    result = {"result": entry["job"]["result"]}
    return {**result, "resultTruncated": True} if entry["job"].get("resultTruncated") else result


def _completed(entry: Entry) -> Message:
    return Message("job:completed", {**_about(entry), **_result(entry)})


def _failed(entry: Entry) -> Message:
    job = entry["job"]
    return Message(
        "job:failed",
        {
            **_about(entry),
            "error": job["error"]["message"],
            "errorCode": job["error"]["code"],
            "attempt": job["attempt"],
            "maxAttempts": job["maxAttempts"],
            "canRetry": True,
        },
    )


def _cancelled(entry: Entry) -> Message:
    return Message("job:cancelled", {**_about(entry), "reason": entry["job"]["cancelReason"]})


def _notified(entry: Entry) -> Message:
    return Message("notification", dict(entry["notification"]))


def _inbox_changed(name: str) -> Speak:
    """What another device of the user did to the inbox; an id of null stands for all notifications."""

    def speak(entry: Entry) -> Message:
        return Message(name, {"id": entry["notificationId"]})

    return speak


def _updated(entry: Entry) -> Message:
    return Message("notification:updated", dict(entry["notification"]))


_was_read = _inbox_changed("notification:read")
_was_unread = _inbox_changed("notification:unread")
_was_deleted = _inbox_changed("notification:deleted")


# The rooms of jobs (S0)


def _of_job(what: str, data: Callable[[Entry], dict[str, Any]]) -> Speak:
    def speak(entry: Entry) -> Message:
        job_id = entry["job"]["id"]
        return Message(f"job:{job_id}:{what}", {"jobId": job_id, **data(entry)})

    return speak


JOB_ROOM: dict[str, Speak] = {
    "JobProgressed": _of_job(
        "progress", lambda entry: {"progress": entry["progress"]["percentage"], "details": entry["progress"]}
    ),
    "JobCompleted": _of_job("completed", _result),
    "JobFailed": _of_job("failed", lambda entry: {"error": entry["job"]["error"]["message"]}),
}


# `/queue` (S4)


def _update(event_type: str, stage: str, more: Callable[[Entry], dict[str, Any]] = lambda _: {}) -> Speak:
    """`stage`: what is said where the job has said nothing itself."""

    def speak(entry: Entry) -> Message:
        job = entry["job"]
        progress = entry.get("progress") or job.get("progress") or {}
        return Message(
            "queue-update",
            {
                "eventType": event_type,
                "jobId": job["id"],
                "jobType": job["type"],
                "userId": entry["userId"],
                "progress": 100 if event_type == "job-completed" else progress.get("percentage", 0),
                "stage": progress.get("message", stage) if event_type == "job-progress" else stage,
                "timestamp": entry["at"],
                **more(entry),
            },
        )

    return speak


def _place(entry: Entry) -> dict[str, Any]:
    job = entry["job"]
    return {"queuePosition": job.get("queuePosition"), "estimatedWaitSeconds": job.get("estimatedWaitSeconds")}


def _error(entry: Entry) -> dict[str, Any]:
    error = entry["job"]["error"]
    return {"error": {"message": error["message"], "code": error["code"]}}


def _reason(entry: Entry) -> dict[str, Any]:
    return {"reason": entry["job"]["cancelReason"]}


_queued = _update("job-queued", "Job queued", _place)


# `/notifications`


def _count(entry: Entry) -> Message:
    return Message("unread-count", dict(entry["inbox"]))


TABLE: dict[str, dict[str, Sequence[Speak]]] = {
    DEFAULT: {
        "JobCreated": (_created, _status),
        "JobQueued": (_status,),
        "JobPostponed": (_status,),
        "JobStarted": (_started, _status),
        "JobProgressed": (_progressed,),
        "JobRetrying": (_retrying, _status),
        "JobCompleted": (_completed, _status),
        "JobFailed": (_failed, _status),
        "JobCancelled": (_cancelled, _status),
        "NotificationCreated": (_notified,),
        # Told here too, so that the numbers a client hears have no holes.
        "NotificationRead": (_was_read,),
        "NotificationUnread": (_was_unread,),
        "NotificationDeleted": (_was_deleted,),
        "NotificationUpdated": (_updated,),
        # New once more.
        "NotificationReturned": (_notified,),
    },
    QUEUE: {
        "JobCreated": (_queued,),
        "JobQueued": (_queued,),
        "JobStarted": (_update("job-started", "Job processing started"),),
        "JobProgressed": (_update("job-progress", "Job in progress"),),
        "JobCompleted": (_update("job-completed", "Job completed successfully", _result),),
        "JobFailed": (_update("job-failed", "Job failed", _error),),
        "JobCancelled": (_update("job-cancelled", "Job cancelled", _reason),),
    },
    NOTIFICATIONS: {
        "NotificationCreated": (_notified, _count),
        "NotificationRead": (_was_read, _count),
        "NotificationUnread": (_was_unread, _count),
        "NotificationDeleted": (_was_deleted, _count),
        "NotificationUpdated": (_updated, _count),
        "NotificationReturned": (_notified, _count),
    },
}
