"""The statuses of a workflow."""

from __future__ import annotations

RUNNING = "running"
COMPLETED = "completed"
FAILED = "failed"
CANCELLED = "cancelled"

STATUSES = (RUNNING, COMPLETED, FAILED, CANCELLED)
