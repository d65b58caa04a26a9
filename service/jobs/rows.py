"""The columns of a job that events and answers need."""

from __future__ import annotations

# JSON columns are left out: whoever wrote them knows them.
COLUMNS = """id, organization_id, user_id, type, name, queue, status, priority, tags, attempt, max_attempts, rescues,
    retry_strategy, retry_delay, timeout, worker, unique_key, concurrency_key, has_dependents, workflow_id, ref,
    schedule_id, parent_id, notify, sensitive, created_at, scheduled_at, started_at, completed_at, next_attempt_at,
    dispatched_at, cancel_requested_at, cancel_reason, discarded_at, version"""

# What a step returns of the jobs it moves: the plan of its event speaks of results and errors.
RETURNED = f"{COLUMNS}, result, error"
