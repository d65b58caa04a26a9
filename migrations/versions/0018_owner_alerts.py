"""What the owners of jobs that keep failing were already told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "owner_alerts",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("job_type", sa.Text(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=False),
        sa.Column("alerted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_owner_alerts_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "job_type", "error_code", name="pk_owner_alerts"),
    )


def downgrade() -> None:
    op.drop_table("owner_alerts")
