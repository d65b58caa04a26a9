"""Ids made of ids in the caller's plan: PostgreSQL takes a function over only if it is one expression."""

from __future__ import annotations

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

# UUIDv7s as before, of other digits of the digest.
DERIVED_ID = """
CREATE OR REPLACE FUNCTION derived_id(event uuid, recipient text) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT overlay(overlay(md5(event::text || recipient)
        PLACING replace(left(event::text, 13), '-', '') || '7' FROM 1 FOR 13) PLACING '8' FROM 17 FOR 1)::uuid
$$
"""

# Not IMMUTABLE, which a function that takes a part of a time is not for the planner: it would call this one each time.
EVENT_ID = """
CREATE OR REPLACE FUNCTION event_id(at timestamptz, job uuid, version int) RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT overlay(overlay(md5(job::text || version::text)
        PLACING lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' FROM 1 FOR 13)
        PLACING '8' FROM 17 FOR 1)::uuid
$$
"""

FORMER_DERIVED_ID = """
CREATE OR REPLACE FUNCTION derived_id(event uuid, recipient text) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (left(event::text, 14) || '7' || substr(digest, 1, 3) || '-8' || substr(digest, 4, 3) || '-'
        || substr(digest, 7, 12))::uuid
    FROM md5(event::text || recipient) AS digest
$$
"""

FORMER_EVENT_ID = """
CREATE OR REPLACE FUNCTION event_id(at timestamptz, job uuid, version int) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (substr(time, 1, 8) || '-' || substr(time, 9, 4) || '-7' || substr(digest, 1, 3) || '-8'
        || substr(digest, 4, 3) || '-' || substr(digest, 7, 12))::uuid
    FROM lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') AS time, md5(job::text || version) AS digest
$$
"""


def upgrade() -> None:
    op.execute(DERIVED_ID)
    op.execute(EVENT_ID)


def downgrade() -> None:
    op.execute(FORMER_DERIVED_ID)
    op.execute(FORMER_EVENT_ID)
