"""What has happened and was not told, because a process died or Redis was away between a commit and its news.

Whoever makes something happen writes in the same transaction that it is untold; the news, once in the log, leave the
row's id in Redis. A tick looks at rows that are some seconds old: those that were told go; a user with one that was not
has his log begin a new epoch, so that nobody is told that nothing was missed.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast
from uuid import UUID

import structlog
from sqlalchemy import insert

from service.clock import utcnow
from service.database import fetch_all, transaction
from service.realtime.log import TOLD_KEY, break_log
from service.realtime.models import UntoldEvent
from service.redis_client import redis

log = structlog.get_logger(__name__)

# News follow their commit at once; after this they do not come any more.
LATE_SECONDS = 10
BATCH = 5_000

# Over `job`, the rows that moved.
PLAN = """
INSERT INTO untold_events (user_id, created_at) SELECT DISTINCT user_id, %(now)s::timestamptz FROM job
RETURNING id, user_id
"""

Untold = dict[str, list[int]]


def by_user(rows: Iterable[Mapping[Any, Any]]) -> Untold:
    """The ids of such rows by their users, as `append` takes them."""
    untold: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows:
        untold[str(row["user_id"])].append(row["id"])
    return untold


def note_untold(user_ids: Iterable[UUID]) -> Untold:
    """Write, in the present transaction, that something is to be told to these users."""
    rows = [{"user_id": user_id, "created_at": utcnow()} for user_id in sorted(set(user_ids))]
    with transaction() as session:
        noted = session.execute(insert(UntoldEvent).returning(UntoldEvent.id, UntoldEvent.user_id), rows)
        return by_user(noted.mappings())


LATE = """
SELECT id, user_id FROM untold_events
WHERE created_at < clock_timestamp() - make_interval(secs => %(seconds)s) ORDER BY id LIMIT %(batch)s
FOR UPDATE SKIP LOCKED
"""

FORGET = """
DELETE FROM untold_events
WHERE id = ANY(ARRAY(SELECT value::bigint FROM jsonb_array_elements_text(%(ids)s)))
"""


def settle_untold() -> int:
    """Forget what was told by now, and break the logs of users to whom something was not; how many rows went.

    Raises RedisError, and then nothing is forgotten.
    """
    with transaction():
        rows = fetch_all(LATE, {"seconds": LATE_SECONDS, "batch": BATCH})
        if not rows:
            return 0
        ids = [row["id"] for row in rows]
        told = _told(ids)
        missed = {str(row["user_id"]) for row in rows if row["id"] not in told}
        for user_id in missed:
            break_log(user_id)
        fetch_all(FORGET, {"ids": json.dumps(ids)})
    if missed:
        log.warning("events_untold", users=len(missed))
    redis().zrem(TOLD_KEY, *ids)
    return len(rows)


def _told(ids: Sequence[int]) -> set[int]:
    scores = redis().zmscore(TOLD_KEY, cast("list[str]", ids))
    return {row_id for row_id, score in zip(ids, scores, strict=True) if score is not None}
