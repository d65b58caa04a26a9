"""Backlogs: what waits because its endpoint is full, is paced by its rate or is left alone by its circuit.

`webhooks.backlog_at` says when the next of an endpoint's backlog may go, so that a long backlog costs those who look
for deliveries one row. What is planned for an endpoint with a backlog joins it: events stay in their order.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from service.clock import utcnow
from service.database import Row, fetch_all, fetch_one, transaction
from service.webhooks.outbox import LEASE_SECONDS, READY

# Endpoints that one look takes up, and rows of one that is switched off which are skipped at once.
ENDPOINTS_AT_ONCE = 100
SKIPPED_AT_ONCE = 1000
# An endpoint whose places are all taken is looked at again after this.
NEXT_SECONDS = 0.02
# Where there is no backlog.
NEVER_SECONDS = 3600.0
# A rate is kept to evenly; what fell behind within this time is made good.
BURST_SECONDS = 0.1

LANES = """
SELECT id::text, active, rate_limit, paced_until,
    EXISTS (SELECT FROM webhook_deliveries WHERE webhook_id = webhooks.id AND in_backlog) AS has_backlog
FROM webhooks
WHERE backlog_at <= %(now)s ORDER BY backlog_at LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
"""

TAKE = f"""
WITH lane AS (SELECT * FROM jsonb_to_recordset(%(lanes)s) AS lane(id uuid, places int)),
claimed AS (
    UPDATE webhook_deliveries AS delivery
    SET status = 'delivering', in_backlog = false, attempts = attempts + 1, next_attempt_at = %(lease)s
    WHERE id = ANY(ARRAY(SELECT due.id FROM lane, LATERAL (
        SELECT id FROM webhook_deliveries WHERE webhook_id = lane.id AND in_backlog
        ORDER BY next_attempt_at LIMIT lane.places FOR UPDATE SKIP LOCKED) AS due))
    RETURNING delivery.*)
{READY}
"""

SKIP = """
UPDATE webhook_deliveries SET status = 'skipped', in_backlog = false, next_attempt_at = NULL
WHERE id = ANY(ARRAY(SELECT id FROM webhook_deliveries WHERE webhook_id = %(endpoint)s AND in_backlog
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
RETURNING id
"""

CONTINUE = """
UPDATE webhooks SET paced_until = coalesce(lane.paced_until, webhooks.paced_until), backlog_at = CASE
    WHEN lane.is_full OR EXISTS (SELECT FROM webhook_deliveries WHERE webhook_id = webhooks.id AND in_backlog)
    THEN lane.at END
FROM jsonb_to_recordset(%(lanes)s) AS lane(id uuid, is_full boolean, at timestamptz, paced_until timestamptz)
WHERE webhooks.id = lane.id
"""

# The endpoints of all backlogs by one look at the index each.
_ENDPOINTS = """
WITH RECURSIVE endpoint AS (
    (SELECT webhook_id FROM webhook_deliveries WHERE in_backlog ORDER BY webhook_id LIMIT 1)
    UNION ALL
    SELECT (SELECT webhook_id FROM webhook_deliveries
        WHERE in_backlog AND webhook_id > endpoint.webhook_id ORDER BY webhook_id LIMIT 1)
    FROM endpoint WHERE endpoint.webhook_id IS NOT NULL)
"""

# A row that was planned just as its endpoint's backlog came to an end would wait for ever.
STRANDED = f"""
{_ENDPOINTS}
UPDATE webhooks SET backlog_at = %(now)s WHERE id IN (
    SELECT id FROM webhooks WHERE backlog_at IS NULL AND id IN (SELECT webhook_id FROM endpoint)
    ORDER BY id FOR UPDATE)
RETURNING id
"""


# So would one that was planned just as its endpoint was deleted; out of the backlog a claim skips it.
ORPHANED = f"""
{_ENDPOINTS}
UPDATE webhook_deliveries SET in_backlog = false WHERE in_backlog AND webhook_id IN (
    SELECT webhook_id FROM endpoint WHERE webhook_id IS NOT NULL
        AND NOT EXISTS (SELECT FROM webhooks WHERE id = endpoint.webhook_id))
RETURNING id
"""


@dataclass(frozen=True, slots=True)
class Room:
    """How many deliveries may go to an endpoint now; `again`: when to ask anew, where it is not soon."""

    places: int
    again: datetime | None = None


@dataclass(frozen=True, slots=True)
class Lane:
    """The backlog of one endpoint in one look: how many may go, and what is known of the next look."""

    endpoint: str
    places: int
    room: Room
    paced: Pace | None


@dataclass(frozen=True, slots=True)
class Pace:
    """An endpoint's rate: `begins` is when the next one was allowed, or a little before now."""

    rate: int
    begins: datetime

    @classmethod
    def of(cls, rate: int, paced_until: datetime | None, now: datetime) -> Pace:
        """The pace of `rate` a second, of which nothing is saved up beyond `BURST_SECONDS`."""
        earliest = now - timedelta(seconds=(max(1, math.ceil(rate * BURST_SECONDS)) - 1) / rate)
        return cls(rate, max(paced_until or earliest, earliest))

    def allows(self, now: datetime) -> int:
        """How many may go by now."""
        behind = (now - self.begins).total_seconds()
        return 0 if behind < 0 else math.floor(behind * self.rate) + 1

    def after(self, taken: int) -> datetime:
        """When the next one may go after so many."""
        return self.begins + timedelta(seconds=taken / self.rate)


def claim_backlogs(free: int, room_of: Callable[[str], Room]) -> tuple[Sequence[Row], float]:
    """Claim up to `free` deliveries out of backlogs whose time has come; the rows, and seconds to the next look.

    `room_of`: an endpoint's room by the text of its id.
    """
    now = utcnow()
    with transaction():
        due = fetch_all(LANES, {"now": now, "limit": ENDPOINTS_AT_ONCE})
        if not due:
            return (), _seconds_to_next(now)
        lanes = []
        for row in due:
            if row["active"]:
                lane = _lane(row, free, room_of, now)
                free -= lane.places
                lanes.append(lane)
        rows = _take([lane for lane in lanes if lane.places], now)
        taken = Counter(str(row["webhook_id"]) for row in rows)
        next_looks = [_next_look(lane, taken[lane.endpoint], now) for lane in lanes]
        for row in due:
            if not row["active"]:
                is_full = _skip(row["id"]) == SKIPPED_AT_ONCE
                next_looks.append({"id": row["id"], "is_full": is_full, "at": now.isoformat()})
        fetch_all(CONTINUE, {"lanes": json.dumps(next_looks)})
        return rows, _seconds_to_next(now)


def _seconds_to_next(now: datetime) -> float:
    row = fetch_one("SELECT min(backlog_at) AS at FROM webhooks WHERE backlog_at IS NOT NULL", {})
    at = None if row is None else row["at"]
    return NEVER_SECONDS if at is None else (at - now).total_seconds()


def free_stranded_backlogs() -> None:
    """Have the backlogs looked at that nobody would look at."""
    with transaction():
        fetch_all(STRANDED, {"now": utcnow()})
        fetch_all(ORPHANED, {})


def _lane(row: Row, free: int, room_of: Callable[[str], Room], now: datetime) -> Lane:
    pace = None if row["rate_limit"] is None else Pace.of(row["rate_limit"], row["paced_until"], now)
    allowed = free if pace is None else min(free, pace.allows(now))
    # Not asked in vain: a probe that is granted has to go.
    room = room_of(row["id"]) if allowed > 0 and row["has_backlog"] else Room(0)
    return Lane(row["id"], max(min(allowed, room.places), 0), room, pace)


def _take(lanes: Sequence[Lane], now: datetime) -> Sequence[Row]:
    if not lanes:
        return ()
    places = [{"id": lane.endpoint, "places": lane.places} for lane in lanes]
    return fetch_all(TAKE, {"lanes": json.dumps(places), "now": now, "lease": now + timedelta(seconds=LEASE_SECONDS)})


def _skip(endpoint: str) -> int:
    return len(fetch_all(SKIP, {"endpoint": endpoint, "limit": SKIPPED_AT_ONCE}))


def _next_look(lane: Lane, taken: int, now: datetime) -> Mapping[str, Any]:
    at = lane.room.again or now + timedelta(seconds=NEXT_SECONDS)
    paced_until = None
    if lane.paced is not None:
        paced_until = lane.paced.after(taken)
        at = max(at, paced_until)
    return {
        "id": lane.endpoint,
        # Without a place there is no telling whether anything is left.
        "is_full": taken == lane.places,
        "at": at.isoformat(),
        "paced_until": None if paced_until is None else paced_until.isoformat(),
    }
