"""Jobs whose payload, result and log are sealed for their owner."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The default stays: during a deploy, processes that do not know the column still submit jobs.
    op.add_column("jobs", sa.Column("sensitive", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index("ix_jobs_sensitive", "jobs", ["id"], postgresql_where=sa.text("sensitive"))


def downgrade() -> None:
    op.drop_index("ix_jobs_sensitive", table_name="jobs")
    op.drop_column("jobs", "sensitive")
