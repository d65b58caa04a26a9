"""Endpoints with headers, rates, rotated secrets and a backlog of their own; what each attempt sent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

DUE = "status IN ('pending', 'delivering')"


def upgrade() -> None:
    op.add_column("webhooks", sa.Column("headers", sa.LargeBinary(), nullable=True))
    op.add_column("webhooks", sa.Column("rate_limit", sa.Integer(), nullable=True))
    op.add_column("webhooks", sa.Column("signature_scheme", sa.Text(), nullable=False, server_default="v1"))
    op.add_column("webhooks", sa.Column("signing_key", sa.LargeBinary(), nullable=True))
    op.add_column("webhooks", sa.Column("public_key", sa.Text(), nullable=True))
    op.add_column("webhooks", sa.Column("failures", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("webhooks", sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("webhooks", sa.Column("backlog_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("webhooks", sa.Column("paced_until", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_webhooks_backlog_at", "webhooks", ["backlog_at"], postgresql_where=sa.text("backlog_at IS NOT NULL")
    )
    op.create_table(
        "webhook_old_secrets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("webhook_id", sa.Uuid(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("signing_key", sa.LargeBinary(), nullable=True),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], name="fk_webhook_old_secrets_webhook_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_old_secrets"),
    )
    op.create_index("ix_webhook_old_secrets_webhook_id", "webhook_old_secrets", ["webhook_id"])
    op.add_column(
        "webhook_deliveries", sa.Column("in_backlog", sa.Boolean(), nullable=False, server_default=sa.text("false"))
    )
    op.add_column("webhook_deliveries", sa.Column("free_attempts", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("webhook_deliveries", sa.Column("status_code", sa.Integer(), nullable=True))
    op.drop_index("ix_webhook_deliveries_due", table_name="webhook_deliveries")
    op.create_index(
        "ix_webhook_deliveries_due",
        "webhook_deliveries",
        ["next_attempt_at"],
        postgresql_where=sa.text(f"{DUE} AND NOT in_backlog"),
    )
    op.create_index(
        "ix_webhook_deliveries_backlog",
        "webhook_deliveries",
        ["webhook_id", "next_attempt_at"],
        postgresql_where=sa.text("in_backlog"),
    )
    op.create_index(
        "ix_webhook_deliveries_undelivered",
        "webhook_deliveries",
        ["webhook_id", "status", sa.literal_column("id DESC")],
        postgresql_where=sa.text("status IN ('failed', 'skipped')"),
    )
    op.create_index(
        "ix_webhook_deliveries_status_code",
        "webhook_deliveries",
        ["webhook_id", "status_code", sa.literal_column("id DESC")],
        postgresql_where=sa.text("status_code NOT BETWEEN 200 AND 299"),
    )
    op.add_column("webhook_attempts", sa.Column("request_url", sa.Text(), nullable=True))
    op.add_column(
        "webhook_attempts",
        sa.Column("request_headers", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    )
    op.add_column("webhook_attempts", sa.Column("payload_format", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("webhook_attempts", "payload_format")
    op.drop_column("webhook_attempts", "request_headers")
    op.drop_column("webhook_attempts", "request_url")
    op.drop_index("ix_webhook_deliveries_status_code", table_name="webhook_deliveries")
    op.drop_index("ix_webhook_deliveries_undelivered", table_name="webhook_deliveries")
    op.drop_index("ix_webhook_deliveries_backlog", table_name="webhook_deliveries")
    op.drop_index("ix_webhook_deliveries_due", table_name="webhook_deliveries")
    op.create_index(
        "ix_webhook_deliveries_due", "webhook_deliveries", ["next_attempt_at"], postgresql_where=sa.text(DUE)
    )
    op.drop_column("webhook_deliveries", "status_code")
    op.drop_column("webhook_deliveries", "free_attempts")
    op.drop_column("webhook_deliveries", "in_backlog")
    op.drop_table("webhook_old_secrets")
    op.drop_index("ix_webhooks_backlog_at", table_name="webhooks")
    for name in (
        "paced_until",
        "backlog_at",
        "failing_since",
        "failures",
        "public_key",
        "signing_key",
        "signature_scheme",
        "rate_limit",
        "headers",
    ):
        op.drop_column("webhooks", name)
