"""What a tick measures of the queues: how much waits, how fast it goes."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from service.clock import utcnow
from service.database import fetch_all, transaction
from service.ids import first_id_at
from service.jobs.waiting import FIGURES_KEY, figures
from service.operations.workers import processes_of
from service.queue import queues
from service.redis_client import redis

STATS_CHANNEL = "carillon:queue-stats"
# Figures that are older say nothing any more.
KEPT_SECONDS = 60
MEASURED = timedelta(seconds=60)
# Under load the newest attempts tell as much as all of them.
MOST_ATTEMPTS = 2_000

WAITING = "SELECT queue, priority, count(*) AS jobs FROM jobs WHERE status = 'queued' GROUP BY queue, priority"
RUNNING = "SELECT queue, count(*) AS jobs FROM jobs WHERE status = 'active' GROUP BY queue"
# Each queue is looked up by itself: PostgreSQL, which plans this without knowing how many attempts there will be, would
# rather read all jobs for a join.
ENDED = """
SELECT queue, count(*) AS attempts, avg(extract(epoch FROM finished_at - started_at))::float AS mean_seconds,
    extract(epoch FROM %(now)s - min(finished_at))::float AS seconds
FROM (SELECT (SELECT queue FROM jobs WHERE jobs.id = job_executions.job_id) AS queue, started_at, finished_at
    FROM job_executions WHERE id >= %(since)s ORDER BY id DESC LIMIT %(most)s) AS attempt
WHERE queue IS NOT NULL GROUP BY queue
"""


def measure() -> dict[str, Any]:
    """Measure all queues and leave the figures where `service.jobs.waiting` reads them; raises RedisError."""
    now = utcnow()
    known = figures()
    measured: dict[str, Any] = {
        queue: {
            "queued": {},
            "active": 0,
            "processes": processes_of(queue),
            # How long jobs take is remembered while none end.
            "meanSeconds": known.get(queue, {}).get("meanSeconds"),
            "ratePerMinute": 0.0,
        }
        for queue in queues()
    }
    with transaction():
        waiting = fetch_all(WAITING, {})
        running = fetch_all(RUNNING, {})
        since = str(first_id_at(now - MEASURED))
        ended = fetch_all(ENDED, {"now": now, "since": since, "most": MOST_ATTEMPTS})
    # A queue that the settings name no more may still have jobs.
    for row in waiting:
        if row["queue"] in measured:
            measured[row["queue"]]["queued"][str(row["priority"])] = row["jobs"]
    for row in running:
        if row["queue"] in measured:
            measured[row["queue"]]["active"] = row["jobs"]
    for row in ended:
        if row["queue"] in measured:
            # A queue that was idle until a moment ago has its rate over the whole minute.
            is_cut = row["attempts"] >= MOST_ATTEMPTS
            seconds = max(row["seconds"], 1.0) if is_cut else MEASURED.total_seconds()
            measured[row["queue"]]["meanSeconds"] = round(row["mean_seconds"], 4)
            measured[row["queue"]]["ratePerMinute"] = round(row["attempts"] * 60 / seconds, 1)
    pipeline = redis().pipeline(transaction=False)
    pipeline.set(FIGURES_KEY, json.dumps(measured), ex=KEPT_SECONDS)
    pipeline.publish(STATS_CHANNEL, json.dumps(_stats(measured)))
    pipeline.execute()
    return measured


def _stats(measured: dict[str, Any]) -> dict[str, Any]:
    """What operators' sockets hear of it (contract, `queue:stats`)."""
    per_queue = {
        queue: {
            "pending": sum(each["queued"].values()),
            "processing": each["active"],
            "ratePerMinute": each["ratePerMinute"],
        }
        for queue, each in measured.items()
    }
    totals = {key: sum(each[key] for each in per_queue.values()) for key in ("pending", "processing", "ratePerMinute")}
    return {**totals, "ratePerMinute": round(totals["ratePerMinute"], 1), "perQueue": per_queue}
