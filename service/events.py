"""The closed list of what can happen, and how the rooms hear of it.

An event is published inside the transaction that makes it true; subscribers run in that same transaction, so what
they write stands or falls with it. Whatever must wait for the commit they register with `after_commit`.

What follows an event of a job is planned in the very statement that moves the job: a planner gives the SQL for each
kind of event, `service.jobs.transitions` joins it to its own, and the event carries what came of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

JobRow = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""


@dataclass(frozen=True, slots=True)
class JobEvent(Event):
    """A job changed; `job` is its row right after."""

    job: JobRow
    # What the planner's parts of the statement returned, by their names; the same for all events of one statement.
    planned: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict, kw_only=True)


class JobCreated(JobEvent):
    """A job was accepted."""


class JobQueued(JobEvent):
    """A job that waited for its time, or was retried or rescued, may run now."""


class JobPostponed(JobEvent):
    """A job waits again: for its time once others have ended, or for others that run anew."""


class JobStarted(JobEvent):
    """A worker began an attempt."""


class JobRetrying(JobEvent):
    """An attempt failed; another will follow at `next_attempt_at`."""


class JobCompleted(JobEvent):
    """Final: the job has its result."""


class JobFailed(JobEvent):
    """Final: the job is a dead letter."""


class JobCancelled(JobEvent):
    """Final: somebody cancelled the job."""


@dataclass(frozen=True, slots=True)
class JobProgressed(JobEvent):
    """A running job told how far it has come. Published outside any transaction: progress is not kept in SQL."""

    progress: Mapping[str, Any]
    # The body has ended with this: its end follows at once.
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class NotificationEvent(Event):
    """A user's notification changed, perhaps on another device."""

    user_id: UUID
    notification_id: UUID | None
    # `{count, version}` of what is unread since.
    inbox: Mapping[str, int]


class NotificationRead(NotificationEvent):
    """A notification was read; `notification_id` None: all of them."""


class NotificationUnread(NotificationEvent):
    """A notification was marked unread."""


class NotificationDeleted(NotificationEvent):
    """A notification was deleted, or has expired."""


@dataclass(frozen=True, slots=True)
class NotificationShown(NotificationEvent):
    """Devices are shown a notification as it is now, as clients see it."""

    notification: Mapping[str, Any]


class NotificationUpdated(NotificationShown):
    """A notification was archived or snoozed or taken back, or its matter was settled."""


class NotificationReturned(NotificationShown):
    """A notification that was snoozed is back."""


@dataclass(frozen=True, slots=True)
class WebhookEvent(Event):
    """An endpoint is in trouble; `webhook` is its row: id, organization_id, user_id, url, failures, failing_since."""

    webhook: Mapping[str, Any]


class WebhookFailing(WebhookEvent):
    """So many attempts in a row have failed that the owner is to know."""


class WebhookDisabled(WebhookEvent):
    """The platform has switched the endpoint off; `disabled_reason` is `gone` or `failing`."""


@dataclass(frozen=True, slots=True)
class SendResolved(Event):
    """Somebody has settled what was sent to many.

    `send` is its row: id, organization_id, sender_id, title, resolution, resolved_by.
    """

    send: Mapping[str, Any]
    username: str
    # Of the button that was pressed.
    label: str


EventType = TypeVar("EventType", bound=Event)
Subscriber = Callable[[Sequence[Any]], None]
_subscribers: dict[type[Event], list[Subscriber]] = {}


@dataclass(frozen=True)
class Plan:
    """SQL that follows an event: `tables` are common table expressions over `job`, the rows that moved.

    They may use the parameter `%(now)s` and those of `parameters`; the rows of each expression named in `results`
    come back with the event.
    """

    tables: str
    results: Sequence[str]
    parameters: Callable[[], Mapping[str, Any]]


Planner = Callable[[type["JobEvent"]], Plan]
_planners: list[Planner] = []


def plan_with(planner: Planner) -> None:
    """Have the statements of jobs ask `planner` what follows an event; saying so twice is saying it once."""
    if planner not in _planners:
        _planners.append(planner)


def plans_of(event_type: type[JobEvent]) -> tuple[Plan, ...]:
    """What the planners give for a kind of event."""
    return tuple(planner(event_type) for planner in _planners)


def subscribe(subscriber: Subscriber, *types: type[Event]) -> None:
    """Have `subscriber` called with each published batch of these types; subscribing twice is subscribing once."""
    for event_type in types:
        listeners = _subscribers.setdefault(event_type, [])
        if subscriber not in listeners:
            listeners.append(subscriber)


def publish(*events: Event) -> None:
    """Tell the subscribers, inside the present transaction, of events of one type."""
    if events:
        for subscriber in _subscribers.get(type(events[0]), ()):
            subscriber(events)
