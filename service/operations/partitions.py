"""Monthly partitions of the tables that only grow, bounded by the time in their UUIDv7 ids."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, text

from service.clock import utcnow
from service.database import transaction
from service.ids import first_id_at

PARTITIONED = ("job_executions", "notifications", "webhook_deliveries", "audit_log")
MONTHS_AHEAD = 2
# Any constant serves.
LOCK = 7_203_513


def prepare_partitions() -> None:
    """Make the partitions of this month and the next two where they are missing."""
    with transaction() as session:
        # Two that make the same partition at once would trip over each other.
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        create_partitions(session.connection(), utcnow())


def create_partitions(connection: Connection, now: datetime) -> None:
    """Make the partitions of the month of `now` and the next two."""
    for table in PARTITIONED:
        for offset in range(MONTHS_AHEAD + 1):
            begins, ends = _month(now, offset), _month(now, offset + 1)
            # Months come from the clock and tables from the list above: nothing here is anybody's input.
            connection.execute(
                text(
                    f"CREATE TABLE IF NOT EXISTS {table}_p_{begins:%Y_%m} PARTITION OF {table} "
                    f"FOR VALUES FROM ('{first_id_at(begins)}') TO ('{first_id_at(ends)}')"
                )
            )


def _month(now: datetime, offset: int) -> datetime:
    months = now.year * 12 + now.month - 1 + offset
    return datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)
