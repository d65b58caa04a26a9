"""What the event log is still to tell, and how much of each inbox is unread."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "untold_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_untold_events"),
    )
    # Rows live for seconds: what they leave behind is taken up often.
    op.execute("ALTER TABLE untold_events SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)")
    op.create_table(
        "inboxes",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("unread", sa.Integer(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_inboxes_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", name="pk_inboxes"),
    )
    # The row changes with each notification: room on its page keeps the change there.
    op.execute("ALTER TABLE inboxes SET (fillfactor = 50)")
    op.execute(
        """
        INSERT INTO inboxes (user_id, unread, version)
        SELECT users.id, (SELECT count(*) FROM notifications WHERE user_id = users.id AND read_at IS NULL), 0 FROM users
        """
    )


def downgrade() -> None:
    op.drop_table("inboxes")
    op.drop_table("untold_events")
