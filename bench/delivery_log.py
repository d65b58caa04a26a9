"""A log of deliveries such as a platform has after some weeks, written by SQL: what claiming and reading have to carry.

Nearly all were delivered at once, so each has one attempt; the first endpoint has 30 % of them, the others share the
rest.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from bench.history import CHUNK, make_partitions, run_statement, uuid_at, write_in_chunks

# Less than deliveries are kept: nothing of it is swept away meanwhile.
DAYS = 28

WRITE_DELIVERIES = f"""
WITH drawn AS MATERIALIZED (
    SELECT n, %(began)s + (n + random()) * %(interval)s AS created_at, random() AS owner, random() AS fate,
        random() AS kind, random() AS pace
    FROM generate_series(%(first)s, %(last)s - 1) AS n),
endpoint AS (
    SELECT id, organization_id, user_id, url, place
    FROM unnest(%(endpoints)s::uuid[]) WITH ORDINALITY AS wanted(id, place) JOIN webhooks USING (id)),
planned AS (
    SELECT {uuid_at("created_at", "'delivery' || n || owner")} AS id, n, created_at, pace,
        {uuid_at("created_at", "'job' || n || owner")} AS job_id,
        {uuid_at("created_at", "'event' || n || owner")} AS event_id,
        organization_id, user_id, endpoint.id AS webhook_id, url,
        CASE WHEN kind < 0.9 THEN 'completed' WHEN kind < 0.94 THEN 'failed' WHEN kind < 0.97 THEN 'created'
            WHEN kind < 0.9999 THEN 'started' ELSE 'cancelled' END AS kind,
        CASE WHEN fate < 0.99 THEN 200 WHEN fate < 0.998 THEN 500 WHEN fate < 0.9999 THEN 404 ELSE 503 END
            AS status_code
    FROM drawn JOIN endpoint ON place = CASE WHEN owner < 0.3 THEN 1
        ELSE 2 + floor((owner - 0.3) / 0.7 * (cardinality(%(endpoints)s::uuid[]) - 1)) END),
delivery AS (
    INSERT INTO webhook_deliveries (id, organization_id, user_id, webhook_id, event_id, event_type, job_id, payload,
        status, attempts, status_code, created_at)
    SELECT id, organization_id, user_id, webhook_id, event_id, 'job.' || kind, job_id,
        jsonb_build_object('type', 'job.' || kind, 'timestamp', to_char(created_at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
            'data', jsonb_build_object('id', job_id, 'jobname', 'Nightly report', 'userId', user_id,
                'result', jsonb_build_object('rows', n, 'file', 'report.csv', 'checksum', md5(n::text)))),
        CASE status_code WHEN 200 THEN 'delivered' ELSE 'failed' END, 1, status_code, created_at
    FROM planned ORDER BY id)
INSERT INTO webhook_attempts (id, delivery_id, attempt, request_url, request_headers, payload_format, status_code,
    resolved_address, response_headers, response_body, timings, created_at)
SELECT {uuid_at("created_at + pace * interval '80 ms'", "'attempt' || n || pace")}, id, 1, url,
    jsonb_build_object('content-type', 'application/json', 'webhook-id', id,
        'webhook-timestamp', extract(epoch FROM created_at)::bigint::text,
        'webhook-signature', 'v1,' || encode(sha256(id::text::bytea), 'base64')),
    'standard', status_code, '127.0.0.1',
    '{{"server": "bench", "content-type": "application/json", "cache-control": "no-store", "content-length": "11"}}',
    CASE status_code WHEN 200 THEN '{{"ok":true}}' ELSE '{{"ok":false}}' END,
    jsonb_build_object('dns', NULL, 'connect', NULL, 'tls', NULL, 'first_byte', round((pace * 80)::numeric, 2),
        'total', round((pace * 80 + 0.4)::numeric, 2)),
    created_at + pace * interval '80 ms'
FROM planned ORDER BY id
"""


class DeliveryLog:
    """The log in one database."""

    def __init__(self, database_url: str, endpoints: Sequence[str]) -> None:
        self._url = database_url
        self._endpoints = list(endpoints)
        self.rows = 0

    def grow(self, rows: int, timeout: float = math.inf) -> float:
        """Write so many deliveries with an attempt each, over the last weeks, or what `timeout` seconds allow.

        Returns the seconds that it took; `rows` says how many there are.
        """
        started = time.monotonic()
        began = datetime.now(UTC) - timedelta(days=DAYS)
        interval = timedelta(days=DAYS) / rows
        make_partitions(self._url, began)

        def write(first: int) -> int:
            last = min(first + CHUNK, rows)
            parameters = {"first": first, "last": last, "began": began, "interval": interval}
            run_statement(self._url, WRITE_DELIVERIES, **parameters, endpoints=self._endpoints)
            return last - first

        self.rows += write_in_chunks(rows, timeout, write)
        # What autovacuum and checkpoints would do in the midst of what is measured.
        for statement in ("VACUUM (ANALYZE) webhook_deliveries, webhook_attempts, webhooks", "CHECKPOINT"):
            run_statement(self._url, statement)
        return time.monotonic() - started
