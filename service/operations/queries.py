"""How the platform is: what answers, and what does not."""

from __future__ import annotations

import time
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from service.database import db
from service.jobs import queries as jobs
from service.operations.workers import workers_alive
from service.queue import queues
from service.realtime import realtime
from service.redis_client import redis

_started_at = time.monotonic()


def health() -> dict[str, Any]:
    """`{status, checks: {database, redis, workers}}`, each `ok` or what is wrong."""
    checks = {"database": _database(), "redis": _redis(), "workers": _workers()}
    healthy = all(answer == "ok" for answer in checks.values())
    return {"status": "healthy" if healthy else "unhealthy", "checks": checks}


def _database() -> str:
    try:
        db.session.execute(text("SELECT 1"))
    except SQLAlchemyError:
        return "The database does not answer."
    return "ok"


def _redis() -> str:
    try:
        redis().ping()
    except (RedisError, OSError):
        return "Redis does not answer."
    return "ok"


def _workers() -> str:
    try:
        idle = [queue for queue in (*queues(), "delivery", "housekeeping") if not workers_alive(queue)]
    except (RedisError, OSError):
        return "Workers cannot be asked while Redis does not answer."
    return f"No worker serves: {', '.join(idle)}." if idle else "ok"


def jobs_health() -> dict[str, Any]:
    """S1's `{status, queueSize, activeJobs, failedJobs, lastProcessedAt}`."""
    return {"status": "healthy" if _workers() == "ok" else "degraded", **jobs.health()}


def websocket_health() -> dict[str, Any]:
    """S1's `{status, connectedClients, uptime}` of this web process; uptime in seconds."""
    return {
        "status": "healthy",
        "connectedClients": realtime().connected,
        "uptime": round(time.monotonic() - _started_at, 1),
    }
