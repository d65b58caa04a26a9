"""`Idempotency-Key`: a submission that comes twice is one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from service.clock import utcnow
from service.database import fetch_all, fetch_one, transaction
from service.errors import Conflict
from service.events import JobRow
from service.jobs.rows import COLUMNS

KEPT = timedelta(days=7)


class IdempotencyConflict(Conflict):
    """This Idempotency-Key was used with another body."""

    code = "idempotency_conflict"


# A second submission under way at the same moment waits here until the first has committed.
CLAIM = """
INSERT INTO idempotency_keys (user_id, key, body_hash, job_ids, created_at)
VALUES (%(user_id)s, %(key)s, %(body_hash)s, %(job_ids)s::uuid[], %(now)s)
ON CONFLICT DO NOTHING RETURNING key
"""


def claim(user_id: UUID, key: str, body_hash: bytes, job_ids: Sequence[str], now: datetime) -> list[JobRow] | None:
    """Take a key for new jobs: None; or the jobs it led to before. Raises IdempotencyConflict."""
    parameters = {"user_id": str(user_id), "key": key}
    claimed = fetch_one(CLAIM, {**parameters, "body_hash": body_hash, "job_ids": _array(job_ids), "now": now})
    return None if claimed is not None else first_jobs(user_id, key, body_hash)


def first_jobs(user_id: UUID, key: str, body_hash: bytes) -> list[JobRow] | None:
    """The jobs that a key led to before; None for one that is new. Raises IdempotencyConflict."""
    known = fetch_one(
        """
        SELECT body_hash, job_ids::text[] AS job_ids FROM idempotency_keys
        WHERE user_id = %(user_id)s AND key = %(key)s
        """,
        {"user_id": str(user_id), "key": key},
    )
    if known is None:
        return None
    if bytes(known["body_hash"]) != body_hash:
        raise IdempotencyConflict
    first = fetch_all(
        f"""
        SELECT {COLUMNS} FROM jobs JOIN unnest(%(job_ids)s::uuid[]) WITH ORDINALITY AS first(job_id, place)
            ON jobs.id = first.job_id
        ORDER BY first.place
        """,
        {"job_ids": _array(known["job_ids"])},
    )
    if len(first) < len(known["job_ids"]):
        raise IdempotencyConflict("A job that this Idempotency-Key led to has been deleted.")
    return list(first)


def settle(user_id: UUID, key: str, job_ids: Sequence[object]) -> None:
    """Note which jobs a claimed key led to: a unique job may have led to one that there was."""
    fetch_all(
        "UPDATE idempotency_keys SET job_ids = %(job_ids)s::uuid[] WHERE user_id = %(user_id)s AND key = %(key)s",
        {"user_id": str(user_id), "key": key, "job_ids": _array(job_ids)},
    )


def _array(job_ids: Sequence[object]) -> str:
    """Ids in PostgreSQL's own notation: psycopg2 would send a list of texts, which is no list of ids."""
    return "{" + ",".join(str(job_id) for job_id in job_ids) + "}"


def forget_old_keys() -> None:
    """Delete keys after seven days: a client that tries again does so sooner."""
    with transaction():
        fetch_all("DELETE FROM idempotency_keys WHERE created_at < %(before)s", {"before": utcnow() - KEPT})
