"""A send on its way: batches for the inbox, rows of the outbox for the other channels. Each recipient once.

Every id is made of the send and the recipient, so that a job which runs again writes nothing anew. How far the inboxes
of a part have come is noted with each batch: whoever has deleted his notification is not told again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select

from service.clock import utcnow
from service.database import after_commit, fetch_all, fetch_one, transaction
from service.errors import NotFound
from service.ids import derived_id
from service.jobs.submission import Submission, submit_jobs
from service.notifications import providers
from service.notifications.audience import FIRST, LAST, Audience, recipients, scope, slices
from service.notifications.composing import ANYBODY, SEND, words_of_send
from service.notifications.models import NotificationSend
from service.notifications.preferences import IN_APP, decision, is_critical_type
from service.notifications.representation import COLUMNS
from service.notifications.sends import JOB_TYPES, tag_of
from service.notifier.channels import inbox, webhook
from service.realtime import untold
from service.realtime.log import append
from service.settings import current_settings

# Recipients of one job; an audience of more is cut into slices, each with a job of its own.
SLICE = {channel: 10_000 if channel == IN_APP else 100 for channel in JOB_TYPES}
# Inboxes that are written by one statement.
BATCH = 1_000


class SendNotFound(NotFound):
    """There is no such send."""

    code = "notification_send_not_found"


@dataclass(frozen=True, kw_only=True)
class Part:
    """Those of a send's audience with ids above `after` up to and with `until`, by one channel."""

    send: NotificationSend
    channel: str
    after: UUID = FIRST
    until: UUID = LAST

    @property
    def audience(self) -> Audience:
        """Of the whole send."""
        return Audience.given(self.send.audience)

    @property
    def parameters(self) -> dict[str, Any]:
        """What the statements about it ask for."""
        return {
            **scope(self.send.organization_id, self.audience, self.after, self.until),
            "send_id": str(self.send.id),
            "channel": self.channel,
            "category": self.send.category,
            "is_critical": self.send.is_critical or is_critical_type(self.send.category),
            # Apprise takes what no browser takes.
            "needs_device": not current_settings().push_apprise_urls,
            "now": utcnow(),
        }


def read_send(send_id: UUID) -> NotificationSend:
    """A send; raises SendNotFound."""
    with transaction() as session:
        send = session.get(NotificationSend, send_id)
    if send is None:
        raise SendNotFound
    return send


def is_expired(send: NotificationSend) -> bool:
    """Whether nobody is to hear of it any more."""
    return send.expires_at is not None and send.expires_at <= utcnow()


def submit_slices(part: Part, owner_id: UUID, job_id: UUID) -> int:
    """Have each slice of a part be dealt with by a job of its own, which comes from `job_id`; how many there are.

    A slice that has its job keeps it; none is submitted once the send is cancelled.
    """
    count = 0
    for some in slices(part.send.organization_id, part.audience, SLICE[part.channel], part.after, part.until):
        submissions = {
            (slice_id := derived_id(part.send.id, f"{part.channel} {after} {until}")): Submission(
                id=slice_id,
                type=JOB_TYPES[part.channel],
                payload={"sendId": str(part.send.id), "after": str(after), "until": str(until)},
                notify=False,
                tags=[tag_of(part.send.id)],
                parent_id=job_id,
            )
            for after, until in some
        }
        with transaction() as session:
            if session.scalar(_not_cancelled(part.send.id)) is None:
                return count
            known = _known(submissions)
            fresh = [submission for slice_id, submission in submissions.items() if slice_id not in known]
            if fresh:
                submit_jobs(fresh, organization_id=part.send.organization_id, user_id=owner_id)
        count += len(submissions)
    return count


def _not_cancelled(send_id: UUID) -> Select[UUID]:
    """Locked: whoever cancels it waits, and then finds the jobs that were submitted meanwhile."""
    known = select(NotificationSend.id).where(NotificationSend.id == send_id, NotificationSend.cancelled_at.is_(None))
    return known.with_for_update(read=True)


def _known(job_ids: Mapping[UUID, object]) -> set[UUID]:
    ids = "{" + ",".join(str(each) for each in job_ids) + "}"
    return {
        UUID(str(row["id"])) for row in fetch_all("SELECT id FROM jobs WHERE id = ANY(%(ids)s::uuid[])", {"ids": ids})
    }


def _send(condition: str = "true") -> str:
    # The moment it is for, and so what its notifications are sorted by, is not always that of its row. It is locked, so
    # that an approval that is being settled meanwhile reaches the recipients of this batch too, and that whoever
    # cancels finds all that was planned.
    return f"""
    send AS (SELECT id, type, category, data, actions, expires_at, resolution,
            greatest(send_at, created_at) AS at, event_id(greatest(send_at, created_at), id, 0) AS event_id
        FROM notification_sends WHERE id = %(send_id)s::uuid AND cancelled_at IS NULL AND {condition} FOR SHARE)
    """


# Of two attempts that write the same batch, one whose worker was taken for dead perhaps, the second waits here, then
# finds that the part has come further, and writes nothing.
_PLACE = """
place AS (SELECT FROM inbox_places
    WHERE send_id = %(send_id)s::uuid AND after = %(part)s::uuid AND reached = %(after)s::uuid FOR UPDATE)
"""

_REACHED = """
UPDATE inbox_places SET reached = batch.last, recipients = inbox_places.recipients + batch.recipients,
    delivered = inbox_places.delivered + batch.delivered
FROM (SELECT (array_agg(user_id ORDER BY user_id DESC))[1] AS last, count(*) AS recipients,
        count(*) FILTER (WHERE status = 'pending') AS delivered
    FROM decided CROSS JOIN send) AS batch
WHERE send_id = %(send_id)s::uuid AND after = %(part)s::uuid AND batch.recipients > 0
RETURNING reached::text AS reached, inbox_places.recipients, inbox_places.delivered
"""


def _page(audience: Audience) -> str:
    decided = decision(
        "%(channel)s::text",
        "%(category)s::text",
        "%(is_critical)s::boolean",
        needs_device="%(needs_device)s::boolean",
    )
    return f"""
    recipient AS MATERIALIZED ({recipients(audience)} ORDER BY users.id LIMIT %(limit)s),
    decided AS MATERIALIZED (SELECT recipient.id AS user_id, recipient.organization_id, recipient.username, decision.*
        FROM recipient CROSS JOIN LATERAL ({decided}) AS decision)
    """


_INBOX = f"""
INSERT INTO notifications (id, organization_id, user_id, event_id, type, category, title, message, data, created_at,
    send_id, actions, resolution, expires_at)
SELECT derived_id(send.event_id, decided.user_id::text), decided.organization_id, decided.user_id, send.event_id,
    send.type, send.category, replace(%(title)s::text, '{ANYBODY}', decided.username),
    replace(%(message)s::text, '{ANYBODY}', decided.username), send.data, send.at, send.id, send.actions,
    send.resolution, send.expires_at
FROM decided CROSS JOIN send WHERE decided.status = 'pending'
ON CONFLICT (id) DO NOTHING
RETURNING {", ".join(COLUMNS)}
"""

# Of the inbox only what did not get there, and why.
_MESSAGES = f"""
INSERT INTO channel_messages (id, organization_id, user_id, channel, source_id, send_id, notification_type, template,
    data, status, reason, digest, address, attempts, created_at, next_attempt_at)
SELECT derived_id(send.event_id, user_id || ' ' || %(channel)s::text), organization_id, user_id, %(channel)s::text,
    send.event_id, send.id, %(category)s::text, '{SEND}', '{{{{}}}}', status, reason, digest, address, 0,
    %(now)s::timestamptz, next_attempt_at
FROM ({{decided}}) AS decided CROSS JOIN send
ON CONFLICT (id) DO NOTHING
RETURNING id
"""

_TO_INBOXES: Mapping[str, str] = {
    "inbox": _INBOX,
    "inbox_counts": inbox.PLAN["inbox_counts"],
    "webhook_of_notification": webhook.PLAN["webhook_of_notification"],
    "kept_back": _MESSAGES.format(decided="SELECT * FROM decided WHERE status <> 'pending'"),
    "untold": "INSERT INTO untold_events (user_id, created_at) SELECT user_id, %(now)s::timestamptz FROM inbox "
    "RETURNING id, user_id",
}
_TOLD = ("inbox", "inbox_counts", "webhook_of_notification", "untold")


def _inbox_statement(page: str) -> str:
    # Locked first: nothing is written from a place that others have left meanwhile.
    begins = f"{_PLACE}, {_send('EXISTS (SELECT FROM place)')}"
    tables = ", ".join([begins, page, *(f"{name} AS ({sql})" for name, sql in _TO_INBOXES.items())])
    results = ", ".join(f"(SELECT coalesce(json_agg({name}), '[]') FROM {name})::text AS {name}" for name in _TOLD)
    return f"""
    WITH {tables}, reached AS ({_REACHED})
    SELECT {results}, (SELECT count(*) FROM recipient CROSS JOIN send) AS recipients,
        EXISTS (SELECT FROM place) AS is_here, reached.reached, reached.recipients AS all_recipients,
        reached.delivered AS all_delivered
    FROM (SELECT) AS one LEFT JOIN reached ON true
    """


@dataclass(frozen=True, slots=True)
class Place:
    """How far the inboxes of a part have come: the last user, how many recipients, how many of them have it."""

    reached: UUID
    recipients: int
    delivered: int


_BEGIN = """
INSERT INTO inbox_places (send_id, after, reached, recipients, delivered)
VALUES (%(send_id)s, %(part)s, %(part)s, 0, 0) ON CONFLICT DO NOTHING
"""
_HERE = """
SELECT reached::text AS reached, recipients, delivered FROM inbox_places
WHERE send_id = %(send_id)s::uuid AND after = %(part)s::uuid
"""


def _place_of(part: Part) -> Place:
    asked = {"send_id": str(part.send.id), "part": str(part.after)}
    with transaction():
        fetch_all(_BEGIN, asked)
        row = fetch_one(_HERE, asked)
    assert row is not None
    return Place(UUID(row["reached"]), row["recipients"], row["delivered"])


def fill_inboxes(part: Part) -> Iterator[Place]:
    """Write what was sent into the inboxes of a part, batch by batch, and tell those who are there.

    It goes on from where an earlier attempt has come, whose recipients count too, and says so after each batch.
    """
    words = words_of_send(part.send, IN_APP)
    statement = _inbox_statement(_page(part.audience))
    asked = {**part.parameters, "title": words.subject, "message": words.text, "limit": BATCH, "part": str(part.after)}
    place = _place_of(part)
    if place.recipients:
        yield place
    while True:
        with transaction():
            row = fetch_one(statement, {**asked, "after": str(place.reached)})
            assert row is not None
            planned = {name: json.loads(row[name]) for name in _TOLD}
            after_commit(lambda planned=planned: _tell(planned))  # type: ignore[misc]  # bound for each batch
        if not row["is_here"]:
            # What others have written meanwhile counts too, and there may be nothing left to write.
            place = _place_of(part)
            yield place
            continue
        if row["recipients"]:
            place = Place(UUID(row["reached"]), row["all_recipients"], row["all_delivered"])
            yield place
        if row["recipients"] < BATCH:
            return


def _tell(planned: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    told, wakes = inbox.after_commit(planned), webhook.after_commit({"webhook": (), **planned})
    append(told.entries, [*told.wakes, *wakes.wakes], untold.by_user(planned["untold"]))


# What may leave at once is the job's that plans it, and no business of the outbox until the job leaves it to it.
_PLANNED = """
SELECT user_id, organization_id, digest, address,
    CASE WHEN NOT %(is_on)s::boolean THEN 'suppressed' ELSE status END AS status,
    CASE WHEN NOT %(is_on)s::boolean THEN 'channel_off' ELSE reason END AS reason,
    CASE WHEN %(is_on)s::boolean AND status = 'held' THEN next_attempt_at END AS next_attempt_at
FROM decided
"""

_OF_PART = """
SELECT id::text AS id, status FROM channel_messages
WHERE send_id = %(send_id)s::uuid AND channel = %(channel)s AND user_id > %(after)s AND user_id <= %(until)s
ORDER BY user_id
"""


def plan_messages(part: Part) -> list[UUID]:
    """Write the messages of a part, of one slice at most, for another channel; the ids of those to be sent now."""
    statement = f"WITH {_send()}, {_page(part.audience)} {_MESSAGES.format(decided=_PLANNED)}"
    asked = {**part.parameters, "limit": SLICE[part.channel], "is_on": providers.is_on(part.channel)}
    with transaction():
        fetch_all(statement, asked)
    return [UUID(row["id"]) for row in _messages_of(part) if row["status"] == "pending"]


def _messages_of(part: Part) -> Sequence[Mapping[str, Any]]:
    known = part.parameters
    with transaction():
        return fetch_all(_OF_PART, {name: known[name] for name in ("send_id", "channel", "after", "until")})


def outcome_of(part: Part) -> dict[str, int]:
    """How many of a part's messages are where: `{recipients, sent, failed, held, suppressed, waiting}`."""
    statuses = [row["status"] for row in _messages_of(part)]
    counted = {name: statuses.count(name) for name in ("sent", "failed", "held", "suppressed")}
    waiting = len(statuses) - sum(counted.values())
    return {"recipients": len(statuses), **counted, "waiting": waiting}
