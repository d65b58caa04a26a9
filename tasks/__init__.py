"""The side of Celery: job types, delivery, housekeeping."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from importlib.metadata import entry_points

from service.queue import celery_app

# Its maintenance is known and weighed; no need for each worker to print it at its start.
warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")

ENTRY_POINT_GROUP = "carillon.jobs"

__all__ = ["celery_app", "load_job_types"]


def load_job_types() -> None:
    """Import every job type: those under `tasks.jobs`, and those that installed packages name as entry points."""
    import tasks.jobs

    for module in pkgutil.walk_packages(tasks.jobs.__path__, "tasks.jobs."):
        importlib.import_module(module.name)
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        entry_point.load()
