"""One statement a step: a job moves, its attempt is recorded, and everything that follows is planned, or nothing is.

A round trip costs more than what travels on it, and a single statement needs no BEGIN and no COMMIT.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from service.database import fetch_all, transaction
from service.events import JobEvent, JobRow, Plan, plans_of, publish
from service.jobs.rows import COLUMNS


@cache
def _statement(step: str, extra: str, plans: Sequence[Plan]) -> str:
    tables = ", ".join([step, *[plan.tables for plan in plans]])
    results = "".join(
        f", (SELECT json_agg({name}) FROM {name})::text AS planned_{name}" for plan in plans for name in plan.results
    )
    return f"WITH {tables} SELECT {COLUMNS}{extra}{results} FROM job"


def transition(
    event_type: type[JobEvent],
    step: str,
    parameters: Mapping[str, Any],
    *,
    extra: str = "",
    known: Mapping[str, Any] | None = None,
) -> Sequence[JobRow]:
    """Run a step and publish its event for each job that moved; their rows, none where the guard of the step held.

    `step`: common table expressions, of which `job` returns `RETURNED` of the jobs that move; `parameters` has `now`.
    `extra`: more columns of `job` for the rows. `known`: columns that the caller wrote and need not read.
    """
    plans = plans_of(event_type)
    statement = _statement(step, extra, plans)
    for plan in plans:
        parameters = {**parameters, **plan.parameters()}
    with transaction(is_single=True):
        rows = [_with(row, known) for row in fetch_all(statement, parameters)]
        if rows:
            planned = {
                name: json.loads(text) if (text := rows[0][f"planned_{name}"]) else []
                for plan in plans
                for name in plan.results
            }
            publish(*[event_type(row, planned=planned) for row in rows])
    return rows


def _with(row: JobRow, known: Mapping[str, Any] | None) -> JobRow:
    return row if known is None else {**row, **known}
