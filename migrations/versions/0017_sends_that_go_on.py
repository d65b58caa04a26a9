"""How far each part of a send has come in inboxes, and an index of what was cancelled."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "inbox_places",
        sa.Column("send_id", sa.Uuid(), nullable=False),
        sa.Column("after", sa.Uuid(), nullable=False),
        sa.Column("reached", sa.Uuid(), nullable=False),
        sa.Column("recipients", sa.Integer(), nullable=False),
        sa.Column("delivered", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["send_id"], ["notification_sends.id"], name="fk_inbox_places_send_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("send_id", "after", name="pk_inbox_places"),
    )
    op.create_index(
        "ix_notification_sends_cancelled_at",
        "notification_sends",
        ["cancelled_at"],
        postgresql_where=sa.text("cancelled_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_notification_sends_cancelled_at", table_name="notification_sends")
    op.drop_table("inbox_places")
