"""Expiry and uniqueness of jobs, idempotency keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

WAITING = "status IN ('scheduled', 'blocked', 'queued', 'retrying') AND expires_at IS NOT NULL"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("unique_key", sa.Text()))
    op.add_column("jobs", sa.Column("unique_id", sa.Uuid()))
    op.add_column("jobs", sa.Column("unique_held", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.alter_column("jobs", "unique_held", server_default=None)
    op.add_column("jobs", sa.Column("unique_states", postgresql.ARRAY(sa.Text())))
    op.add_column("jobs", sa.Column("unique_until", sa.DateTime(timezone=True)))
    op.add_column("jobs", sa.Column("expires_at", sa.DateTime(timezone=True)))
    op.create_index("uq_jobs_unique_id", "jobs", ["unique_id"], unique=True, postgresql_where=sa.text("unique_held"))
    op.create_index("ix_jobs_expiring", "jobs", ["expires_at"], postgresql_where=sa.text(WAITING))
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("body_hash", sa.LargeBinary(), nullable=False),
        sa.Column("job_ids", postgresql.ARRAY(sa.Uuid()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_idempotency_keys_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"])


def downgrade() -> None:
    op.drop_table("idempotency_keys")
    op.drop_index("ix_jobs_expiring", table_name="jobs")
    op.drop_index("uq_jobs_unique_id", table_name="jobs")
    for column in ("expires_at", "unique_until", "unique_states", "unique_held", "unique_id", "unique_key"):
        op.drop_column("jobs", column)
