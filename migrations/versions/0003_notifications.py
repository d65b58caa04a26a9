"""The inbox, preferences and messages to be sent outside."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


# A UUIDv7 made of an event's id and a recipient: the time of the first, and 74 bits of a digest of both. Planning an
# event twice so meets the primary key, which no unique index on a partitioned table could do without the month.
DERIVED_ID = """
CREATE FUNCTION derived_id(event uuid, recipient text) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (left(event::text, 14) || '7' || substr(digest, 1, 3) || '-8' || substr(digest, 4, 3) || '-'
        || substr(digest, 7, 12))::uuid
    FROM md5(event::text || recipient) AS digest
$$
"""


# A UUIDv7 made of a moment and what happened to a job then: its version counts its changes.
EVENT_ID = """
CREATE FUNCTION event_id(at timestamptz, job uuid, version int) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (substr(time, 1, 8) || '-' || substr(time, 9, 4) || '-7' || substr(digest, 1, 3) || '-8'
        || substr(digest, 4, 3) || '-' || substr(digest, 7, 12))::uuid
    FROM lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') AS time, md5(job::text || version) AS digest
$$
"""


def upgrade() -> None:
    op.execute(DERIVED_ID)
    op.execute(EVENT_ID)
    op.create_table(
        "notifications",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
        postgresql_partition_by="RANGE (id)",
    )
    op.create_index(
        "ix_notifications_unread",
        "notifications",
        ["user_id"],
        unique=False,
        postgresql_where=sa.text("read_at IS NULL"),
    )
    op.create_index(
        "ix_notifications_user_id_id",
        "notifications",
        ["user_id", sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_table(
        "channel_messages",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("template", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("provider_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_channel_messages_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_channel_messages")),
    )
    op.create_index(
        "ix_channel_messages_due",
        "channel_messages",
        ["next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('pending', 'sending')"),
    )
    op.create_table(
        "notification_preferences",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("notification_type", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_notification_preferences_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification_preferences")),
        sa.UniqueConstraint(
            "user_id",
            "notification_type",
            "channel",
            name=op.f("uq_notification_preferences_user_id_notification_type_channel"),
        ),
    )


def downgrade() -> None:
    op.drop_table("notification_preferences")
    op.drop_index(
        "ix_channel_messages_due",
        table_name="channel_messages",
        postgresql_where=sa.text("status IN ('pending', 'sending')"),
    )
    op.drop_table("channel_messages")
    op.drop_index("ix_notifications_user_id_id", table_name="notifications")
    op.drop_index("ix_notifications_unread", table_name="notifications", postgresql_where=sa.text("read_at IS NULL"))
    op.drop_table("notifications")
    op.execute("DROP FUNCTION derived_id")
    op.execute("DROP FUNCTION event_id")
