"""Plans deliveries as the notifier does, by its SQL, and wakes the delivery task: a process in the product's settings.

Each command names in `do` what is to be done: one of the public methods of `Planner`, with its arguments.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from secrets import token_urlsafe
from typing import Any
from uuid import UUID

from bench.children import Message, Parent
from service import create_app
from service.accounts.actions import register_user
from service.accounts.tokens import issue_access_token
from service.clock import utcnow
from service.database import fetch_all, fetch_one, transaction
from service.ids import first_id_at, new_id
from service.notifier.channels.webhook import DELIVERY_TASK, PLAN
from service.queue import wake
from service.settings import Settings
from service.webhooks.actions import create_webhook
from service.webhooks.circuits import read_circuits

# What is planned together is due so much later, and this for each: all of it is there, and the meter runs, when the
# task is woken.
AHEAD_SECONDS, AHEAD_SECONDS_EACH = 1.0, 0.000_2
LOOK_SECONDS = 0.01
DATA = {
    "result": {"rows": 1200, "file": "report.csv", "skipped": [17, 404], "checksum": "9f86d081884c7d659a2feaa0c55ad"}
}

# The ends of as many jobs, of the users in turn.
PLAN_COMPLETED = f"""
WITH owner AS (
    SELECT users.id, users.organization_id, place
    FROM jsonb_array_elements_text(%(users)s::jsonb) WITH ORDINALITY AS wanted(id, place)
    JOIN users ON users.id = wanted.id::uuid),
job AS MATERIALIZED (
    SELECT gen_random_uuid() AS id, owner.id AS user_id, owner.organization_id
    FROM generate_series(0, %(count)s::int - 1) AS number
    JOIN owner ON place = 1 + number %% (SELECT count(*) FROM owner)),
event AS (
    SELECT event_id(%(now)s::timestamptz, job.id, 3) AS id, %(now)s::timestamptz AS at, organization_id, user_id,
        job.id AS job_id, 'Nightly report' AS job_name, 'completed' AS webhook, %(data)s::jsonb AS webhook_data
    FROM job),
planned AS ({PLAN["webhook"]})
SELECT id::text FROM planned
"""

DELIVERED = """
SELECT count(*) AS delivered FROM webhook_deliveries AS delivery
JOIN jsonb_array_elements_text(%(webhooks)s::jsonb) AS wanted(id) ON delivery.webhook_id = wanted.id::uuid
WHERE delivery.id >= %(first)s::uuid AND delivery.status = 'delivered'
"""


class Planner:
    """Users with one endpoint each, and what is planned for them."""

    def __init__(self) -> None:
        self._due = utcnow()

    def make(self, urls: list[str]) -> Message:
        """Make a user with an endpoint for completed jobs for each URL; `{endpoints: [{id, user, token}]}`."""
        return {"endpoints": [_make(url) for url in urls]}

    def plan(self, users: list[str], count: int) -> Message:
        """Plan so many deliveries in one statement, due a little later."""
        self._due = utcnow() + timedelta(seconds=AHEAD_SECONDS + count * AHEAD_SECONDS_EACH)
        return {"planned": len(_plan(users, count, self._due))}

    def wake(self) -> Message:
        """Wait until they are due and wake the task; when that was."""
        time.sleep(max(0.0, (self._due - utcnow()).total_seconds()))
        woken = time.monotonic()
        wake(DELIVERY_TASK)
        return {"woken": woken}

    def settle(self, webhooks: list[str], count: int, timeout: float) -> Message:
        """Wait until so many of them stand there as delivered, or the time is up; how many do, and since when."""
        parameters = {"webhooks": json.dumps(webhooks), "first": str(first_id_at(self._due))}
        ends = time.monotonic() + timeout
        while True:
            with transaction():
                row = fetch_one(DELIVERED, parameters)
            now = time.monotonic()
            assert row
            if row["delivered"] >= count or now > ends:
                return {"delivered": row["delivered"], "at": now}
            time.sleep(LOOK_SECONDS)

    def pace(self, users: list[str], rate: float, seconds: float) -> Message:
        """Plan `rate` deliveries a second for each user, evenly and one by one, as jobs end.

        The answer has when each was committed: `{planned: {user: {delivery: time.monotonic()}}}`.
        """
        planned: dict[str, dict[str, float]] = {user: {} for user in users}
        interval = 1 / (rate * len(users))
        began = time.monotonic()
        for number in range(round(seconds / interval)):
            time.sleep(max(0.0, began + number * interval - time.monotonic()))
            user = users[number % len(users)]
            ids = _plan([user], 1, utcnow())
            committed = time.monotonic()
            wake(DELIVERY_TASK)
            planned[user].update(dict.fromkeys(ids, committed))
        return {"planned": planned}

    def circuits(self, webhooks: list[str]) -> Message:
        """The state of each circuit, in the order of the endpoints."""
        found = read_circuits([UUID(webhook) for webhook in webhooks])
        return {"states": [found[webhook]["state"] for webhook in webhooks]}


def _make(url: str) -> dict[str, str]:
    name = f"bench-{new_id()}"
    user = register_user(username=name, email=f"{name}@example.com", password=token_urlsafe())
    webhook, _ = create_webhook(user.organization_id, user.id, {"url": url, "event_type": "completed"})
    return {"id": str(webhook.id), "user": str(user.id), "token": issue_access_token(user)[0]}


def _plan(users: Sequence[str], count: int, now: datetime) -> list[str]:
    parameters: dict[str, Any] = {"users": json.dumps(users), "count": count, "now": now, "data": json.dumps(DATA)}
    with transaction():
        return [row["id"] for row in fetch_all(PLAN_COMPLETED, parameters)]


def main() -> None:
    """Obey until the bench is gone."""
    parent = Parent()
    parent.first()
    planner = Planner()
    with create_app(Settings.from_env(), serves=False).app_context():
        parent.say({})
        while True:
            for command in parent.commands():
                parent.say(getattr(planner, command.pop("do"))(**command))


if __name__ == "__main__":
    main()
