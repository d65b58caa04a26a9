"""What a worker process loads (see `imports` in celeryconfig): job types as tasks, and the signal receivers."""

from __future__ import annotations

from eventlet.patcher import is_monkey_patched

from service.queue import celery_app
from tasks import load_job_types
from tasks.base import register_job_tasks
from tasks.signals import connect_signals

if is_monkey_patched("socket"):
    # Celery's eventlet pool has patched Python; psycopg2 waits in C and must be told apart.
    from psycogreen.eventlet import patch_psycopg

    patch_psycopg()

load_job_types()
register_job_tasks(celery_app)
connect_signals()
