"""Domain event → the names of each socket contract, in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

Entry = Mapping[str, Any]


class Message(NamedTuple):
    """What one room of the default namespace hears."""

    room: str
    name: str
    data: dict[str, Any]


def user_room(user_id: str) -> str:
    """The room of all sockets of a user."""
    return f"user:{user_id}"


def job_room(job_id: str) -> str:
    """The room of the sockets that subscribed to a job."""
    return f"job:{job_id}"


def messages(entry: Entry) -> Iterator[Message]:
    """What the sockets hear of an entry of the event log, in order."""
    # During a deploy a newer process may tell what this one has no words for.
    speak = TABLE.get(entry["event"])
    if speak is not None:
        yield from speak(entry)


def _about(entry: Entry) -> dict[str, Any]:
    return {"jobId": entry["job"]["id"], "jobName": entry["job"]["name"]}


def _to_user(entry: Entry, name: str, data: dict[str, Any]) -> Message:
    return Message(user_room(entry["userId"]), name, data)


def _to_job(entry: Entry, what: str, data: dict[str, Any]) -> Message:
    job_id = entry["job"]["id"]
    return Message(job_room(job_id), f"job:{job_id}:{what}", {"jobId": job_id, **data})


def _status(entry: Entry) -> Message:
    job = entry["job"]
    data = {"jobId": job["id"], "status": job["status"], "progress": job["progress"]}
    return _to_user(entry, "job:status", data)


def _created(entry: Entry) -> Iterator[Message]:
    yield _to_user(entry, "job:created", dict(entry["job"]))
    yield _status(entry)


def _moved(entry: Entry) -> Iterator[Message]:
    yield _status(entry)


def _started(entry: Entry) -> Iterator[Message]:
    yield _to_user(entry, "job:started", dict(entry["job"]))
    yield _status(entry)


def _progressed(entry: Entry) -> Iterator[Message]:
    progress = entry["progress"]
    percentage = progress["percentage"]
    yield _to_user(entry, "job:progress", {**_about(entry), "progress": progress, "percentage": percentage})
    yield _to_job(entry, "progress", {"progress": percentage, "details": progress})


def _retrying(entry: Entry) -> Iterator[Message]:
    job = entry["job"]
    yield _to_user(
        entry,
        "job:retrying",
        {
            **_about(entry),
            "error": job["error"]["message"],
            "attempt": job["attempt"],
            "maxAttempts": job["maxAttempts"],
            "nextAttemptAt": job["nextAttemptAt"],
        },
    )
    yield _status(entry)


def _completed(entry: Entry) -> Iterator[Message]:
    result = {"result": entry["job"]["result"]}
    if entry["job"].get("resultTruncated"):
        result["resultTruncated"] = True
    yield _to_user(entry, "job:completed", {**_about(entry), **result})
    yield _to_job(entry, "completed", result)
    yield _status(entry)


def _failed(entry: Entry) -> Iterator[Message]:
    job = entry["job"]
    error = job["error"]
    yield _to_user(
        entry,
        "job:failed",
        {
            **_about(entry),
            "error": error["message"],
            "errorCode": error["code"],
            "attempt": job["attempt"],
            "maxAttempts": job["maxAttempts"],
            "canRetry": True,
        },
    )
    yield _to_job(entry, "failed", {"error": error["message"]})
    yield _status(entry)


def _cancelled(entry: Entry) -> Iterator[Message]:
    yield _to_user(entry, "job:cancelled", {**_about(entry), "reason": entry["job"]["cancelReason"]})
    yield _status(entry)


def _notified(entry: Entry) -> Iterator[Message]:
    yield _to_user(entry, "notification", dict(entry["notification"]))


def _changed_elsewhere(name: str) -> Callable[[Entry], Iterator[Message]]:
    """What another device of the user did to the inbox; an id of null stands for all notifications."""

    def speak(entry: Entry) -> Iterator[Message]:
        yield _to_user(entry, name, {"id": entry["notificationId"]})

    return speak


TABLE: dict[str, Callable[[Entry], Iterator[Message]]] = {
    "JobCreated": _created,
    "JobQueued": _moved,
    "JobPostponed": _moved,
    "JobStarted": _started,
    "JobProgressed": _progressed,
    "JobRetrying": _retrying,
    "JobCompleted": _completed,
    "JobFailed": _failed,
    "JobCancelled": _cancelled,
    "NotificationCreated": _notified,
    # Told here too, so that the numbers a client hears have no holes.
    "NotificationRead": _changed_elsewhere("notification:read"),
    "NotificationUnread": _changed_elsewhere("notification:unread"),
    "NotificationDeleted": _changed_elsewhere("notification:deleted"),
}
