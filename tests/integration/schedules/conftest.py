"""Schedules of tests, which leave none behind: a tick deals with everybody's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete, select

from service.clock import utcnow
from service.database import db, transaction
from service.jobs.models import Job
from service.schedules.models import Schedule
from tests.conftest import Account

NIGHTLY = {"name": "Nightly", "type": "demo-steps", "payload": {"steps": 3}, "cron": "30 3 * * *"}
HOURLY = {**NIGHTLY, "name": "Hourly", "cron": "0 * * * *"}

MakeSchedule = Callable[..., Any]


@pytest.fixture(autouse=True)
def no_schedules_left(app: Flask) -> Iterator[None]:
    """Deletes every schedule after the test."""
    yield
    with app.app_context(), transaction() as session:
        session.execute(delete(Schedule))


@pytest.fixture
def make_schedule(client: FlaskClient) -> MakeSchedule:
    """Makes a schedule: `make_schedule(user, cron=…)` gives its JSON."""

    def make(user: Account, **fields: Any) -> Any:
        body = {**NIGHTLY, "cron": None if "intervalSeconds" in fields else NIGHTLY["cron"], **fields}
        answer = client.post("/api/schedules", json=body, headers=user.headers)
        assert answer.status_code == 201, answer.json
        return answer.json

    return make


def came_due(app: Flask, schedule: Any, ago: timedelta = timedelta(seconds=1)) -> datetime:
    """Let the next time of an interval schedule have been so long ago; that time."""
    moment = utcnow() - ago
    with app.app_context(), transaction() as session:
        row = session.get_one(Schedule, UUID(schedule["id"]))
        assert row.interval_seconds is not None
        row.created_at = moment - timedelta(seconds=row.interval_seconds)
        row.next_run_at = moment
    return moment


def jobs_of(app: Flask, schedule: Any) -> list[Job]:
    """The jobs of a schedule, the oldest first."""
    with app.app_context():
        query = select(Job).where(Job.schedule_id == UUID(schedule["id"])).order_by(Job.id)
        return list(db.session.scalars(query))
