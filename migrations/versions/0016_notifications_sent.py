"""Notifications that are sent to audiences, by every channel: sends, templates, preferences, quiet hours, alerts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

JSON = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
MOMENT = sa.DateTime(timezone=True)
WORDS = postgresql.ARRAY(sa.Text())

# A server may not know every zone that the application knows: what needs its clock must not fail for it.
LOCAL_ZONE = """
CREATE FUNCTION local_zone(zone text) RETURNS text LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE AS $$
BEGIN
    PERFORM now() AT TIME ZONE zone;
    RETURN zone;
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN 'UTC';
END
$$
"""

# The end of the quiet hours that `at` lies in, NULL outside them. `hours` are `{"start": "22:00", "end": "07:00"}` by
# the clock of `zone`; hours that begin and end alike last all day.
QUIET_UNTIL = """
CREATE FUNCTION quiet_until(at timestamptz, zone text, hours jsonb) RETURNS timestamptz
LANGUAGE sql STABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE
        WHEN starts < ends AND clock >= starts AND clock < ends THEN (today + ends) AT TIME ZONE known
        WHEN starts >= ends AND clock >= starts THEN (today + 1 + ends) AT TIME ZONE known
        WHEN starts >= ends AND clock < ends THEN (today + ends) AT TIME ZONE known
    END
    FROM (SELECT known, (at AT TIME ZONE known)::time AS clock, (at AT TIME ZONE known)::date AS today,
        (hours ->> 'start')::time AS starts, (hours ->> 'end')::time AS ends
        FROM (SELECT local_zone(zone) AS known OFFSET 0) AS zones) AS local
$$
"""

# When a digest of what comes at `at` goes out by the clock of `zone`: `hourly` at the next full hour, `daily` at the
# next 08:00.
DIGEST_AT = """
CREATE FUNCTION digest_at(at timestamptz, zone text, digest text) RETURNS timestamptz
LANGUAGE sql STABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE digest
        WHEN 'hourly' THEN date_trunc('hour', at, known) + interval '1 hour'
        WHEN 'daily' THEN ((at AT TIME ZONE known)::date
            + CASE WHEN (at AT TIME ZONE known)::time >= time '08:00' THEN 1 ELSE 0 END + time '08:00')
            AT TIME ZONE known
    END
    FROM (SELECT local_zone(zone) AS known OFFSET 0) AS zones
$$
"""


def upgrade() -> None:
    for function in (LOCAL_ZONE, QUIET_UNTIL, DIGEST_AT):
        op.execute(function)
    op.add_column("users", sa.Column("quiet_hours", JSON, nullable=True))
    op.create_table(
        "notification_sends",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("sender_id", sa.Uuid(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.Column("actions", JSON, nullable=True),
        sa.Column("audience", JSON, nullable=False),
        sa.Column("channels", WORDS, nullable=False),
        sa.Column("is_critical", sa.Boolean(), nullable=False),
        sa.Column("template_name", sa.Text(), nullable=True),
        sa.Column("locale", sa.Text(), nullable=True),
        sa.Column("variables", JSON, nullable=True),
        sa.Column("send_at", MOMENT, nullable=True),
        sa.Column("expires_at", MOMENT, nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.Column("resolved_by", sa.Uuid(), nullable=True),
        sa.Column("resolved_at", MOMENT, nullable=True),
        sa.Column("cancelled_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_notification_sends_organization_id"
        ),
        sa.ForeignKeyConstraint(
            ["sender_id"], ["users.id"], name="fk_notification_sends_sender_id", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_notification_sends"),
    )
    op.create_index(
        "ix_notification_sends_organization_id_id",
        "notification_sends",
        ["organization_id", sa.literal_column("id DESC")],
    )
    for column in (
        sa.Column("send_id", sa.Uuid(), nullable=True),
        sa.Column("actions", JSON, nullable=True),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.Column("archived_at", MOMENT, nullable=True),
        sa.Column("snoozed_until", MOMENT, nullable=True),
        sa.Column("expires_at", MOMENT, nullable=True),
    ):
        op.add_column("notifications", column)
    for name in ("snoozed_until", "expires_at", "send_id"):
        op.create_index(
            f"ix_notifications_{name}", "notifications", [name], postgresql_where=sa.text(f"{name} IS NOT NULL")
        )
    op.drop_index("ix_notifications_unread", table_name="notifications")
    op.drop_index("ix_notifications_user_id_id", table_name="notifications")
    for name, condition in (
        ("unread", "read_at IS NULL"),
        ("inbox", "archived_at IS NULL"),
        ("archived", "archived_at IS NOT NULL"),
    ):
        op.create_index(
            f"ix_notifications_{name}",
            "notifications",
            ["user_id", sa.literal_column("id DESC")],
            postgresql_where=sa.text(condition),
        )
    op.add_column("notification_preferences", sa.Column("digest", sa.Text(), nullable=False, server_default="none"))
    op.create_table(
        "notification_defaults",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("notification_type", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name="fk_notification_defaults_organization_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("organization_id", "notification_type", "channel", name="pk_notification_defaults"),
    )
    for column in (
        sa.Column("organization_id", sa.Uuid(), nullable=True),
        sa.Column("source_id", sa.Uuid(), nullable=True),
        sa.Column("send_id", sa.Uuid(), nullable=True),
        sa.Column("notification_type", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("digest_id", sa.Uuid(), nullable=True),
        sa.Column("sent_at", MOMENT, nullable=True),
    ):
        op.add_column("channel_messages", column)
    op.create_index(
        "ix_channel_messages_send_id",
        "channel_messages",
        ["send_id", "channel", "user_id"],
        postgresql_where=sa.text("send_id IS NOT NULL"),
    )
    op.create_index(
        "ix_channel_messages_source_id",
        "channel_messages",
        ["source_id", "user_id"],
        postgresql_where=sa.text("source_id IS NOT NULL"),
    )
    op.create_index(
        "ix_channel_messages_held",
        "channel_messages",
        ["next_attempt_at"],
        postgresql_where=sa.text("status = 'held'"),
    )
    op.drop_index("ix_channel_messages_due", table_name="channel_messages")
    op.create_index(
        "ix_channel_messages_due",
        "channel_messages",
        ["channel", "next_attempt_at"],
        postgresql_where=sa.text("status IN ('pending', 'sending')"),
    )
    op.create_table(
        "notification_templates",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("locale", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("channels", WORDS, nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("html", sa.Text(), nullable=True),
        sa.Column("variables", WORDS, nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("deleted_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name="fk_notification_templates_organization_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_notification_templates"),
        sa.UniqueConstraint(
            "organization_id",
            "name",
            "locale",
            "version",
            name="uq_notification_templates_organization_id_name_locale_version",
        ),
    )
    op.create_table(
        "push_subscriptions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("keys", sa.LargeBinary(), nullable=False),
        sa.Column("user_agent", sa.Text(), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_push_subscriptions_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_push_subscriptions"),
        sa.UniqueConstraint("user_id", "endpoint", name="uq_push_subscriptions_user_id_endpoint"),
    )
    op.create_table(
        "platform_keys",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_platform_keys"),
    )
    op.create_index("ix_jobs_failed", "jobs", ["completed_at"], postgresql_where=sa.text("status = 'failed'"))
    op.create_table(
        "failure_alerts",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("job_type", sa.Text(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=False),
        sa.Column("alerted_at", MOMENT, nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_failure_alerts_organization_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("organization_id", "job_type", "error_code", name="pk_failure_alerts"),
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_failed", table_name="jobs")
    for table in (
        "failure_alerts",
        "platform_keys",
        "push_subscriptions",
        "notification_templates",
        "notification_defaults",
    ):
        op.drop_table(table)
    op.drop_index("ix_channel_messages_due", table_name="channel_messages")
    op.create_index(
        "ix_channel_messages_due",
        "channel_messages",
        ["next_attempt_at"],
        postgresql_where=sa.text("status IN ('pending', 'sending')"),
    )
    for index in ("held", "source_id", "send_id"):
        op.drop_index(f"ix_channel_messages_{index}", table_name="channel_messages")
    for column in (
        "sent_at",
        "digest_id",
        "digest",
        "provider",
        "address",
        "reason",
        "notification_type",
        "send_id",
        "source_id",
        "organization_id",
    ):
        op.drop_column("channel_messages", column)
    op.drop_column("notification_preferences", "digest")
    for name in ("unread", "inbox", "archived"):
        op.drop_index(f"ix_notifications_{name}", table_name="notifications")
    op.create_index("ix_notifications_user_id_id", "notifications", ["user_id", sa.literal_column("id DESC")])
    op.create_index(
        "ix_notifications_unread", "notifications", ["user_id"], postgresql_where=sa.text("read_at IS NULL")
    )
    for name in ("send_id", "expires_at", "snoozed_until"):
        op.drop_index(f"ix_notifications_{name}", table_name="notifications")
    for column in ("expires_at", "snoozed_until", "archived_at", "resolution", "actions", "send_id"):
        op.drop_column("notifications", column)
    op.drop_table("notification_sends")
    op.drop_column("users", "quiet_hours")
    for function in ("digest_at", "quiet_until", "local_zone"):
        op.execute(f"DROP FUNCTION {function}")
