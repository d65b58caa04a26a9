"""Artifacts, and the files that belong to none."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# However a row goes, by hand or with its job, its file is known to be left behind.
NOTE_UNLISTED = """
CREATE FUNCTION note_unlisted_file() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO unlisted_files (id, organization_id, job_id, attempt, noted_at)
    VALUES (OLD.id, OLD.organization_id, OLD.job_id, NULL, clock_timestamp())
    ON CONFLICT (id) DO UPDATE SET attempt = NULL;
    RETURN NULL;
END
$$
"""

TRIGGER = """
CREATE TRIGGER note_unlisted_file AFTER DELETE ON artifacts
FOR EACH ROW EXECUTE FUNCTION note_unlisted_file()
"""


def upgrade() -> None:
    op.create_table(
        "artifacts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_artifacts_organization_id")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_artifacts_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifacts")),
        sa.UniqueConstraint("job_id", "attempt", "name", name=op.f("uq_artifacts_job_id_attempt_name")),
    )
    op.create_index(op.f("ix_artifacts_expires_at"), "artifacts", ["expires_at"])
    op.create_table(
        "unlisted_files",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer()),
        sa.Column("noted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_unlisted_files")),
    )
    op.execute(NOTE_UNLISTED)
    op.execute(TRIGGER)


def downgrade() -> None:
    op.execute("DROP TRIGGER note_unlisted_file ON artifacts")
    op.execute("DROP FUNCTION note_unlisted_file")
    op.drop_table("unlisted_files")
    op.drop_table("artifacts")
