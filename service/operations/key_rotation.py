"""Everything that is stored encrypted, moved to the first of ENCRYPTION_KEYS, so that older keys can be retired."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cryptography.fernet import InvalidToken
from sqlalchemy import Column, ColumnElement, Table, bindparam, select, true, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from service.connections.models import Connection
from service.crypto import rotated
from service.database import transaction
from service.job_templates.models import JobTemplate
from service.jobs.models import Job, JobLog
from service.jobs.sealing import resealed
from service.push.models import PlatformKey, PushSubscription
from service.schedules.models import Schedule
from service.webhooks.models import Webhook, WebhookOldSecret

# Rows that are locked at once: whoever wants to write one of them waits for some milliseconds.
BATCH = 200


@dataclass(frozen=True)
class Place:
    """A column that holds what is encrypted; `renew` gives a value under the first key, None where it is so already."""

    column: InstrumentedAttribute[Any]
    renew: Callable[[Any], Any]
    # In which rows; empty: in all.
    where: Sequence[ColumnElement[bool]] = ()


@dataclass(frozen=True)
class Rotation:
    """What came of a place: how many values were encrypted anew, and how many no key fits any more."""

    place: str
    rotated: int
    unreadable: int


def _rotated_text(token: str) -> str | None:
    renewed = rotated(token.encode())
    return None if renewed is None else renewed.decode()


_OF_SENSITIVE_JOBS = JobLog.job_id.in_(select(Job.id).where(Job.sensitive == true()))

PLACES = (
    Place(Connection.url, rotated),
    Place(Webhook.secret, rotated),
    Place(Webhook.signing_key, rotated),
    Place(Webhook.headers, rotated),
    Place(WebhookOldSecret.secret, rotated),
    Place(WebhookOldSecret.signing_key, rotated),
    Place(PushSubscription.keys, rotated),
    Place(PlatformKey.value, rotated),
    Place(Job.payload, resealed, [Job.sensitive == true()]),
    Place(Job.result, resealed, [Job.sensitive == true()]),
    Place(JobLog.message, _rotated_text, [_OF_SENSITIVE_JOBS]),
    Place(Schedule.payload, resealed, [Schedule.sensitive == true()]),
    Place(JobTemplate.payload, resealed, [JobTemplate.sensitive == true()]),
)


def rotate_keys() -> Iterator[Rotation]:
    """Go through all places, batch by batch, each a transaction; doing it again does nothing more."""
    for place in PLACES:
        yield _rotate(place)


def _rotate(place: Place) -> Rotation:
    done = unreadable = 0
    last: UUID | str | None = None
    while True:
        with transaction() as session:
            rows = _batch(session, place, last)
            renewed = []
            for row_id, value in rows:
                try:
                    fresh = place.renew(value)
                except InvalidToken:
                    unreadable += 1
                else:
                    if fresh is not None:
                        renewed.append({"row_id": row_id, "fresh": fresh})
            _write(session, place, renewed)
        done += len(renewed)
        if len(rows) < BATCH:
            return Rotation(f"{_table(place).name}.{place.column.key}", done, unreadable)
        last = rows[-1][0]


def _table(place: Place) -> Table:
    table: Table = place.column.class_.__table__
    return table


def _key(table: Table) -> Column[Any]:
    """What names a row: `id`, or the name that stands in its place."""
    return table.c.id if "id" in table.c else table.c.name


def _batch(session: Session, place: Place, last: UUID | str | None) -> list[tuple[UUID | str, Any]]:
    row_id = _key(_table(place))
    query = select(row_id, place.column).where(place.column.is_not(None), *place.where)
    if last is not None:
        query = query.where(row_id > last)
    # Locked, so that nobody's newer value is overwritten.
    return [(row[0], row[1]) for row in session.execute(query.order_by(row_id).limit(BATCH).with_for_update())]


def _write(session: Session, place: Place, renewed: list[dict[str, Any]]) -> None:
    if not renewed:
        return
    table = _table(place)
    # Nothing has changed for anybody: the times of the last change stay.
    unchanged = {column.name: column for column in table.c if column.onupdate is not None}
    values = {place.column.key: bindparam("fresh"), **unchanged}
    session.execute(update(table).where(_key(table) == bindparam("row_id")).values(values), renewed)
