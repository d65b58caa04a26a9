"""A history of jobs such as a platform has after some weeks, written by SQL: what lists and indexes have to carry.

Several tenants, many users of very different diligence, of whom one has 30 % of all jobs; attempts of every job, and
notifications of some. All rows are as the product writes them, under all of its constraints and indexes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
from sqlalchemy import create_engine, make_url

from service.notifications.preferences import DEFAULT_PREFERENCES
from service.operations.partitions import create_partitions

# Less than jobs are kept: nothing of it is swept away meanwhile.
DAYS = 25
# As many at once as keep two cores busy; each is a transaction.
CONNECTIONS = 2
CHUNK = 25_000
TENANTS = 8
USERS = 200
# Words that some jobs have in their tags and names.
COMMON_TAG, RARE_TAG = "nightly", "reprocessed"
COMMON_WORD, RARE_WORD = "report", "ledger"

MAKE_TENANTS = """
INSERT INTO organizations (id, name, created_at)
SELECT gen_random_uuid(), 'history-' || n, %(began)s FROM generate_series(1, %(tenants)s) AS n
"""

# A fifth of them are colleagues of the user whose jobs the bench reads. Nobody knows a password of theirs.
MAKE_USERS = """
WITH tenants AS (
    SELECT id, row_number() OVER (ORDER BY name) AS place FROM organizations WHERE name LIKE 'history-%%'),
person AS (
    INSERT INTO users (id, organization_id, username, email, password_hash, roles, timezone, is_active, created_at,
        updated_at)
    SELECT gen_random_uuid(), CASE WHEN n %% 5 = 0 THEN %(organization_id)s::uuid ELSE tenants.id END, 'history' || n,
        'history' || n || '@example.com', '!', ARRAY['user'], 'UTC', true, %(began)s, %(began)s
    FROM generate_series(1, %(users)s) AS n JOIN tenants ON place = 1 + n %% %(tenants)s
    RETURNING id)
INSERT INTO notification_preferences (id, user_id, notification_type, channel, enabled, updated_at)
SELECT gen_random_uuid(), person.id, type, channel, enabled, %(began)s
FROM person, unnest(%(types)s, %(channels)s, %(enabled)s) AS preference(type, channel, enabled)
"""


def uuid_at(moment: str, seed: str) -> str:
    """SQL of a UUIDv7 of a moment, its other bits a digest: `new_id` of the product, for many rows at once."""
    time_part = f"lpad(to_hex((extract(epoch FROM {moment}) * 1000)::bigint), 12, '0')"
    return f"({time_part} || '7' || overlay(left(md5({seed}), 19) PLACING '8' FROM 4 FOR 1))::uuid"


# Of 100 jobs 96 complete, 3 fail for good and 1 is cancelled, half of these before they begin.
WRITE_JOBS = f"""
WITH drawn AS MATERIALIZED (
    SELECT n, %(began)s + (n + random()) * %(interval)s AS created_at, random() AS fate, random() AS owner,
        random() AS kind, random() AS label, random() AS word, random() AS pace
    FROM generate_series(%(first)s, %(last)s - 1) AS n),
people AS (
    SELECT id, organization_id, row_number() OVER (ORDER BY username) AS place FROM users
    WHERE username LIKE 'history%%'),
job_kind(least, type, title, queue, payload, result) AS (VALUES
    (0.0, 'demo-steps', 'Demo steps', 'default', '{{"steps": 5, "sleepMs": 0}}', '{{"steps": 5, "attempt": 1}}'),
    (0.6, 'schema-rebuild', 'Schema Rebuild', 'default',
        '{{"connectionId": "019a5f3e-5c1c-7d5e-8f61-0a4f1c0b9d11", "force": false}}',
        '{{"tables": 42, "views": 7, "columns": 431, "changed": true}}'),
    (0.85, 'library-scan', 'Library Scan', 'default',
        '{{"libraryId": "019a5f3e-5c1c-7d5e-8f61-0a4f1c0b9d12", "full": false}}',
        '{{"files": 1290, "added": 12, "removed": 3, "kinds": {{"audio": 800, "video": 490}}}}'),
    (0.9999, 'job-actions', 'Bulk action', 'default', '{{"action": "retry", "ids": []}}', '{{"count": 0}}')),
planned AS (
    SELECT {uuid_at("created_at", "'job' || n || owner")} AS id, n, created_at, pace,
        CASE WHEN owner < 0.3 THEN %(user_id)s::uuid ELSE person.id END AS user_id,
        CASE WHEN owner < 0.3 THEN %(organization_id)s::uuid ELSE person.organization_id END AS organization_id,
        CASE WHEN fate < 0.96 THEN 'completed' WHEN fate < 0.99 THEN 'failed' ELSE 'cancelled' END AS status,
        CASE WHEN fate < 0.96 THEN 1 + (fate < 0.02)::int WHEN fate < 0.98 THEN 1 WHEN fate < 0.99 THEN 4
            ELSE (fate < 0.995)::int END AS attempts,
        CASE WHEN label < 0.15 THEN ARRAY['{COMMON_TAG}']
            WHEN label < 0.25 THEN ARRAY['customer-' || (word * 1000)::int, 'paid']
            WHEN label < 0.2501 THEN ARRAY['{RARE_TAG}'] ELSE ARRAY[]::text[] END AS tags,
        CASE WHEN word < 0.2 THEN 'Monthly {COMMON_WORD} ' || n WHEN word < 0.3 THEN 'Import of orders ' || n
            WHEN word < 0.30005 THEN 'Close the {RARE_WORD} of ' || n ELSE job_kind.title END AS name,
        type, queue, payload::jsonb AS payload, result::jsonb AS result
    FROM drawn
    JOIN people AS person ON person.place = 1 + floor(power((owner - 0.3) / 0.7 * (owner >= 0.3)::int, 3) * %(users)s)
    JOIN LATERAL (SELECT * FROM job_kind WHERE kind >= least ORDER BY least DESC LIMIT 1) AS job_kind ON true),
job AS (
    INSERT INTO jobs (id, organization_id, user_id, type, name, queue, status, priority, payload, result, error,
        progress, tags, attempt, retry_limit, max_attempts, rescues, retry_strategy, retry_delay, timeout, worker,
        unique_held, waiting_for, has_dependents, notify, sensitive, created_at, started_at, completed_at,
        cancel_requested_at, cancel_reason, version)
    SELECT id, organization_id, user_id, type, name, queue, status, 50, payload,
        CASE WHEN status = 'completed' THEN result END,
        CASE WHEN status = 'failed' THEN (ARRAY[
            jsonb_build_object('code', 'demo_failure', 'retryable', false,
                'message', 'Failed for good at step ' || n %% 5 + 1),
            jsonb_build_object('code', 'unexpected_error', 'retryable', true,
                'message', 'ConnectionError: no answer from 10.0.' || n %% 256 || '.' || n %% 250 || ' within 10 s'),
            jsonb_build_object('code', 'unexpected_error', 'retryable', true,
                'message', 'KeyError: ''column_' || n || ''''),
            jsonb_build_object('code', 'timeout', 'retryable', true, 'message', 'Took longer than 1800 s.')
            ])[1 + n %% 4] END,
        CASE WHEN status = 'completed' THEN
            '{{"total": 5, "current": 5, "message": "Step 5 of 5", "percentage": 100}}'::jsonb END,
        tags, attempts, 3, 4, 0, 'exponential', 1.0, 1800, CASE WHEN attempts > 0 THEN 'jobs@history:' || n %% 8 END,
        false, 0, false, true, false, created_at,
        CASE WHEN attempts > 0 THEN created_at + pace * interval '2 s' END,
        created_at + (1 + pace * 20) * interval '1 s',
        CASE WHEN status = 'cancelled' THEN created_at + interval '1 s' END,
        CASE WHEN status = 'cancelled' THEN 'No longer needed' END, 1 + attempts * 2
    FROM planned ORDER BY created_at
    RETURNING id, organization_id, user_id, type, name, status, error, attempt, worker, started_at, completed_at),
execution AS (
    INSERT INTO job_executions (id, job_id, attempt, worker, status, error, traceback, started_at, finished_at)
    SELECT {uuid_at("completed_at", "id::text || number")}, id, number, worker,
        CASE WHEN number = attempt THEN status ELSE 'retrying' END, error,
        CASE WHEN error IS NOT NULL THEN repeat('  File "steps.py", line 41, in demo_steps' || chr(10), 12) END,
        started_at, completed_at
    FROM job, generate_series(1, attempt) AS number),
told AS (
    INSERT INTO notifications (id, organization_id, user_id, event_id, type, category, title, message, data, created_at,
        read_at)
    SELECT {uuid_at("completed_at", "'inbox' || id")}, organization_id, user_id,
        {uuid_at("completed_at", "'event' || id")},
        'job_' || status, 'jobs', name || ' ' || status, name || ' ' || status || '.',
        jsonb_build_object('jobId', id, 'jobType', type), completed_at,
        CASE WHEN random() < 0.9 THEN completed_at + interval '1 hour' END
    FROM job WHERE random() < 0.3)
SELECT count(*) FROM job
"""


class History:
    """The history in one database, of which the user named `username` has a good part."""

    def __init__(self, database_url: str, username: str) -> None:
        self._url = database_url
        self._began = datetime.now(UTC) - timedelta(days=DAYS)
        self.rows = 0
        self._owner = self._prepare(username)

    def grow(self, rows: int, timeout: float = math.inf) -> float:
        """Have so many jobs in the history, from its first day to now, or what `timeout` seconds allow.

        Returns the seconds that it took; `rows` says how many there are.
        """
        began = time.monotonic()
        missing = max(0, rows - self.rows)
        self.rows += write_in_chunks(missing, timeout, lambda first: self._write(first, missing))
        # What autovacuum and checkpoints would do in the midst of what is measured.
        for statement in ("VACUUM (ANALYZE) jobs, job_executions, notifications, users", "CHECKPOINT"):
            self._run(statement)
        return time.monotonic() - began

    def _prepare(self, username: str) -> dict[str, Any]:
        make_partitions(self._url, self._began)
        rows = self._run("SELECT id::text, organization_id::text FROM users WHERE username = %(name)s", name=username)
        owner = {"user_id": rows[0][0], "organization_id": rows[0][1]}
        types, channels, enabled = zip(*DEFAULT_PREFERENCES, strict=True)
        self._run(MAKE_TENANTS, began=self._began, tenants=TENANTS)
        self._run(
            MAKE_USERS,
            began=self._began,
            tenants=TENANTS,
            users=USERS,
            organization_id=owner["organization_id"],
            types=list(types),
            channels=list(channels),
            enabled=list(enabled),
        )
        return owner

    def _write(self, first: int, count: int) -> int:
        # As a whole they end now; what is added later lies between what there was.
        interval = (datetime.now(UTC) - self._began) / count
        last = min(first + CHUNK, count)
        parameters = {"first": first, "last": last, "began": self._began, "interval": interval, "users": USERS}
        written: int = self._run(WRITE_JOBS, **parameters, **self._owner)[0][0]
        return written

    def _run(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        return run_statement(self._url, statement, **parameters)


def write_in_chunks(rows: int, timeout: float, write: Callable[[int], int]) -> int:
    """Have `write` write `CHUNK` rows from each number on, as many at once as is good, until the time is up.

    `write` is given the first number and returns how many rows it wrote; so does this.
    """
    ends = time.monotonic() + timeout

    def write_in_time(first: int) -> int:
        return write(first) if time.monotonic() < ends else 0

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return sum(pool.map(write_in_time, range(0, rows, CHUNK)))


def make_partitions(database_url: str, moment: datetime) -> None:
    """Make the partitions of the month of a moment, and of those after it."""
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg2"))
    with engine.begin() as connection:
        create_partitions(connection, moment)
    engine.dispose()


def run_statement(database_url: str, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """Run a statement in a connection and a transaction of its own; its rows."""
    with closing(psycopg2.connect(database_url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return list(cursor.fetchall()) if cursor.description else []
