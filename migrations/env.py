"""Runs the migrations inside the application, on the database of its settings."""

from __future__ import annotations

from typing import Any

from alembic import context
from flask import current_app
from sqlalchemy import text

# Two processes may start at once: one migrates, the other waits. Any constant serves.
LOCK = 7_203_511

database = current_app.extensions["migrate"].db


def is_ours(
    item: Any,  # noqa: ARG001
    name: str | None,
    kind: str,
    _reflected: bool,
    _compare_to: Any,
) -> bool:
    """Leaves the partitions of partitioned tables out of comparisons; they are made as months come."""
    return not (kind == "table" and name is not None and "_p_" in name)


with database.engine.connect() as connection:
    connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=database.metadata,
        include_object=is_ours,
        compare_type=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": LOCK})
    connection.commit()
