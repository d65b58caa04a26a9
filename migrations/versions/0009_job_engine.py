"""Held and limited jobs, dependencies, workflows, queues that are paused, dead letters."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

FINAL = "status IN ('completed', 'failed', 'cancelled')"


def _columns() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("concurrency_key", sa.Text()),
        sa.Column("waiting_for", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("has_dependents", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("workflow_id", sa.Uuid()),
        sa.Column("ref", sa.Text()),
        sa.Column("schedule_id", sa.Uuid()),
        sa.Column("parent_id", sa.Uuid()),
        sa.Column("notify", sa.Boolean(), nullable=False, server_default=sa.true()),
        sa.Column("parked_on", sa.Text()),
        sa.Column("discarded_at", sa.DateTime(timezone=True)),
    )


def upgrade() -> None:
    op.create_table(
        "workflows",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_workflows_organization_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_workflows_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workflows")),
    )
    op.create_index("ix_workflows_user_id_id", "workflows", ["user_id", sa.literal_column("id DESC")])
    op.create_index("ix_workflows_organization_id_id", "workflows", ["organization_id", sa.literal_column("id DESC")])
    op.create_index("ix_workflows_running", "workflows", ["id"], postgresql_where=sa.text("status = 'running'"))
    for column in _columns():
        op.add_column("jobs", column)
    for column in ("waiting_for", "has_dependents", "notify"):
        op.alter_column("jobs", column, server_default=None)
    op.drop_index("ix_jobs_queued", table_name="jobs")
    op.drop_index("ix_jobs_failed", table_name="jobs")
    priority = sa.literal_column("priority DESC")
    newest = sa.literal_column("id DESC")
    for name, columns, where in (
        ("queued", ["queue", priority, "id"], "status = 'queued'"),
        (
            "held",
            ["queue", "organization_id", priority, "id"],
            "status = 'queued' AND dispatched_at IS NULL AND parked_on IS NULL",
        ),
        ("parked", ["parked_on", priority, "id"], "status = 'queued' AND parked_on IS NOT NULL"),
        ("sent", ["queue", "organization_id"], "status = 'queued' AND dispatched_at IS NOT NULL"),
        ("dead", ["organization_id", newest], "status = 'failed' AND discarded_at IS NULL"),
        ("settling", ["id"], f"has_dependents AND {FINAL}"),
        ("workflow_id", ["workflow_id", "status"], "workflow_id IS NOT NULL"),
        ("schedule_id", ["schedule_id", newest], "schedule_id IS NOT NULL"),
    ):
        op.create_index(f"ix_jobs_{name}", "jobs", columns, postgresql_where=sa.text(where))
    op.create_table(
        "job_dependencies",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("parent_id", sa.Uuid(), nullable=False),
        sa.Column("on_failure", sa.Text(), nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_dependencies_job_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["jobs.id"], name=op.f("fk_job_dependencies_parent_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "parent_id", name=op.f("pk_job_dependencies")),
    )
    op.create_index("ix_job_dependencies_parent_id", "job_dependencies", ["parent_id"])
    op.create_table(
        "queues",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True)),
        sa.Column("drain_before", sa.DateTime(timezone=True)),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_queues")),
    )
    op.create_table(
        "job_limits",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("concurrency", sa.Integer()),
        sa.Column("rate", sa.Integer()),
        sa.Column("period", sa.Double()),
        sa.Column("kind", sa.Text()),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_job_limits")),
    )
    op.create_table(
        "job_rate_buckets",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("tokens", sa.Double(), nullable=False),
        sa.Column("refilled_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_job_rate_buckets")),
    )


def downgrade() -> None:
    for table in ("job_rate_buckets", "job_limits", "queues", "job_dependencies"):
        op.drop_table(table)
    for name in ("schedule_id", "workflow_id", "settling", "dead", "sent", "parked", "held", "queued"):
        op.drop_index(f"ix_jobs_{name}", table_name="jobs")
    op.create_index(
        "ix_jobs_failed",
        "jobs",
        ["organization_id", sa.literal_column("id DESC")],
        postgresql_where=sa.text("status = 'failed'"),
    )
    op.create_index("ix_jobs_queued", "jobs", ["queue", "id"], postgresql_where=sa.text("status = 'queued'"))
    for column in reversed(_columns()):
        op.drop_column("jobs", column.name)
    op.drop_table("workflows")
