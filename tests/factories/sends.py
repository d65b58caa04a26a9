"""What was sent to audiences, its jobs without Celery, and a mail server that takes the mails."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from flask.testing import FlaskClient

from service.database import fetch_one, transaction
from service.ids import new_id
from service.jobs import lifecycle
from service.notifications import sending
from service.notifications.models import NotificationSend
from tasks.testing import JobRun, run_job
from tests.conftest import Account
from tests.factories.jobs import start

NEWS = {"type": "informational", "title": "Test Notification", "message": "This is a test"}

Sql = Callable[..., list[Any]]


class Mailbox:
    """Keeps what a mail server is given; while `is_away` it takes nothing."""

    def __init__(self) -> None:
        self.recipients: list[str] = []
        self.is_away = False
        #: Called with the recipient of each mail, before it is answered.
        self.before_answer: Callable[[str], object] = lambda _recipient: None

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.before_answer(envelope.rcpt_tos[0])
        if self.is_away:
            return "451 later"
        self.recipients += envelope.rcpt_tos
        return "250 OK"


def inbox(client: FlaskClient, user: Account) -> list[Any]:
    """The newest notifications of a user."""
    data: list[Any] = client.get("/api/notifications", headers=user.headers).json["data"]
    return data


def reasons(client: FlaskClient, sender: Account, send_id: str) -> dict[tuple[str, str | None], int]:
    """How many messages of a send have each status and reason."""
    trace = client.get(f"/api/notifications/{send_id}/trace?limit=100", headers=sender.headers).json["data"]
    return Counter((each["status"], each["reason"]) for each in trace)


def run_attempt(job_id: UUID | str, **options: Any) -> JobRun:
    """Run the next attempt of a queued job as a worker does, and note its end; takes what `run_job` takes."""
    with transaction():
        job = fetch_one(
            "SELECT type, payload::text AS payload, user_id::text AS user_id, attempt FROM jobs WHERE id = %(id)s",
            {"id": str(job_id)},
        )
    assert job is not None
    known, number = UUID(str(job_id)), job["attempt"] + 1
    assert start(known, number) is not None
    run = run_job(job["type"], json.loads(job["payload"]), job_id=known, user_id=UUID(job["user_id"]), **options)
    if run.status == "completed":
        lifecycle.complete_job(known, number, run.result)
    elif run.status == "cancelled":
        lifecycle.stop_job(known, number)
    else:
        lifecycle.fail_job(known, number, run.error or {})
    return run


def part_of(send_id: UUID | str, channel: str = "in_app") -> sending.Part:
    """All of a send by one channel."""
    return sending.Part(send=sending.read_send(UUID(str(send_id))), channel=channel)


def send_news(users: Sequence[Account], **columns: Any) -> UUID:
    """A send to the inboxes of users of one tenant that has no jobs; its id."""
    send_id: UUID = columns.pop("id", None) or new_id()
    with transaction() as session:
        session.add(
            NotificationSend(
                id=send_id,
                organization_id=users[0].organization_id,
                audience={"userIds": [str(each.id) for each in users]},
                **{"category": "general", "data": {}, "channels": ["in_app"], "is_critical": False, **NEWS, **columns},
            )
        )
    return send_id
