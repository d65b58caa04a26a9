"""Indexes for lists of what is rare among very many jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

NEWEST = sa.literal_column("id DESC")
UNUSUAL = "status IN ('scheduled', 'blocked', 'retrying', 'failed', 'cancelled')"
DEAD = "status = 'failed' AND discarded_at IS NULL"


def upgrade() -> None:
    for owner in ("user_id", "organization_id"):
        op.create_index(f"ix_jobs_{owner}_type_id", "jobs", [owner, "type", NEWEST])
        op.create_index(
            f"ix_jobs_{owner}_status_id", "jobs", [owner, "status", NEWEST], postgresql_where=sa.text(UNUSUAL)
        )
    op.create_index(
        "ix_jobs_tags",
        "jobs",
        ["tags"],
        postgresql_using="gin",
        postgresql_with={"fastupdate": "off"},
        postgresql_where=sa.text("array_length(tags, 1) IS NOT NULL"),
    )
    op.drop_index("ix_jobs_dead", table_name="jobs")
    op.create_index(
        "ix_jobs_dead",
        "jobs",
        ["organization_id", NEWEST],
        postgresql_include=["user_id"],
        postgresql_where=sa.text(DEAD),
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_dead", table_name="jobs")
    op.create_index("ix_jobs_dead", "jobs", ["organization_id", NEWEST], postgresql_where=sa.text(DEAD))
    op.drop_index("ix_jobs_tags", table_name="jobs")
    for owner in ("organization_id", "user_id"):
        op.drop_index(f"ix_jobs_{owner}_status_id", table_name="jobs")
        op.drop_index(f"ix_jobs_{owner}_type_id", table_name="jobs")
