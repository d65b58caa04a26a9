"""Notifications to audiences on real processes: S3's script, ten thousand recipients, a mail server that is away."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
import requests
from aiosmtpd.controller import Controller

from devstack.ports import free_port
from tests.acceptance.platform import Person, Platform
from tests.acceptance.receiver import Receiver
from tests.acceptance.waiting import until

RECIPIENTS = 10_000
IS_LONG = os.environ.get("CARILLON_LONG") == "1"
pytestmark = [pytest.mark.xdist_group("news faults"), pytest.mark.timeout(900 if IS_LONG else 300)]
# How long the mail server is away, and the outbox's first wait.
AWAY_SECONDS = 60 if IS_LONG else 6
RETRY_SECONDS = 60 if IS_LONG else 3


class MailServer:
    """A real SMTP server at a fixed port, which can be away; keeps who got what."""

    def __init__(self) -> None:
        self.port = free_port()
        self.mails: list[tuple[str, str]] = []
        self._controller: Controller | None = None

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        headers = envelope.content.decode().partition("\r\n\r\n")[0]
        subject = next(line for line in headers.splitlines() if line.startswith("Subject: "))
        self.mails += [(address, subject.removeprefix("Subject: ")) for address in envelope.rcpt_tos]
        return "250 OK"

    def start(self) -> None:
        """Take mails."""
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()

    def stop(self) -> None:
        """Be away."""
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    def to(self, person: Person) -> list[str]:
        """The subjects of somebody's mails."""
        return [subject for address, subject in self.mails if address == address_of(person)]


def address_of(person: Person) -> str:
    return f"{person.username}@example.com"


@pytest.fixture(scope="module")
def mail_server() -> Iterator[MailServer]:
    server = MailServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def whatsapp() -> Iterator[Receiver]:
    """In place of a WAHA server."""
    with Receiver(lambda post: 201) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def platform(
    tmp_path_factory: pytest.TempPathFactory, mail_server: MailServer, whatsapp: Receiver
) -> Iterator[Platform]:
    """A platform that sends mails and WhatsApp messages to servers of this test."""
    environment = {
        "SMTP_URL": f"smtp://127.0.0.1:{mail_server.port}",
        "MESSAGE_RETRY_SECONDS": str(RETRY_SECONDS),
        "WHATSAPP_PROVIDER": "waha",
        "WAHA_URL": whatsapp.url.removesuffix("/hook"),
    }
    with Platform(tmp_path_factory.mktemp("notifying"), **environment) as platform:
        yield platform


def await_jobs(platform: Platform, job_ids: list[str], seconds: float = 20) -> None:
    """Wait until all of these jobs are completed."""
    until(
        lambda: platform.records.statuses(job_ids) == Counter(completed=len(job_ids)),
        lambda: f"all completed; they are {platform.records.statuses(job_ids)}",
        seconds,
    )


def test_the_manual_test_script_of_s3(platform: Platform, mail_server: MailServer, whatsapp: Receiver) -> None:
    # 1. Start application.
    operator, user = platform.operator(), platform.newcomer()
    user.ask("PATCH", "/api/auth/me", {"phone": "+4915112345678"})
    # 2. Create notification via API.
    body = {
        "type": "informational",
        "title": "Test Notification",
        "message": "This is a test",
        "userId": user.id,
        "channels": ["inApp", "email", "whatsapp"],
        "category": "security",
    }

    def create() -> Any:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {operator.token}"}
        url = f"{platform.url}/api/notifications"
        return requests.post(url, headers=headers, data=json.dumps(body), timeout=20)

    answer = create()
    assert answer.status_code == 202, answer.text
    # 3. Check jobs table.
    jobs = platform.records.rows("SELECT * FROM jobs ORDER BY created_at DESC, id DESC LIMIT 3")
    assert {str(job["id"]) for job in jobs} == {job["jobId"] for job in answer.json()["jobs"]}
    # 4. Verify job types.
    assert {job["type"] for job in jobs} == {"in-app-notification", "email-notification", "whatsapp-notification"}
    # 5. Wait 2 seconds for worker processing.
    await_jobs(platform, [str(job["id"]) for job in jobs])
    # 6. Check job status.
    recent = platform.records.rows("SELECT status FROM jobs WHERE created_at > now() - interval '1 minute'")
    assert {job["status"] for job in recent} == {"completed"}
    assert mail_server.to(user) == ["Test Notification"]
    (post,) = whatsapp.posts()
    assert post.document["chatId"] == "4915112345678@c.us"
    assert "This is a test" in post.document["text"]
    # 7. Subscribe to SSE.
    with user.stream("/api/notifications/stream") as stream:
        # 8. Should receive notification event in real-time.
        assert create().status_code == 202
        told = stream.journal.first("notification")
    assert (told["title"], told["message"], told["category"]) == ("Test Notification", "This is a test", "security")
    assert user.get("/api/notifications")["unreadCount"] == 2


def make_users(platform: Platform, organization: str, count: int) -> None:
    platform.records.rows(
        """
        INSERT INTO users (id, organization_id, username, email, password_hash, roles, timezone, is_active,
            created_at, updated_at)
        SELECT gen_random_uuid(), %s, name, name || '@example.com', '', '{sender}', 'UTC', true, now(), now()
        FROM (SELECT %s || number AS name FROM generate_series(1, %s) AS number) AS made
        """,
        organization,
        f"r{secrets.token_hex(6)}-",
        count,
    )


def test_ten_thousand_recipients_each_hear_of_it_once_though_workers_are_killed(platform: Platform) -> None:
    admin = platform.stranger()
    make_users(platform, admin.get("/api/auth/me")["organizationId"], RECIPIENTS)

    def send() -> tuple[str, str]:
        accepted = admin.ask("POST", "/api/notifications", {**NEWS, "roles": ["sender"]}, 202)
        return accepted["id"], accepted["jobs"][0]["jobId"]

    def written(send_id: str) -> int:
        (row,) = platform.records.rows("SELECT count(*) FROM notifications WHERE send_id = %s", send_id)
        return int(row["count"])

    def assert_each_once(send_ids: list[str]) -> None:
        (row,) = platform.records.rows(
            """
            SELECT count(*) AS written, count(DISTINCT (send_id, user_id)) AS once,
                (SELECT sum(unread) FROM inboxes WHERE user_id IN
                    (SELECT user_id FROM notifications WHERE send_id = ANY(%s::uuid[]))) AS counted
            FROM notifications WHERE send_id = ANY(%s::uuid[])
            """,
            send_ids,
            send_ids,
        )
        assert set(row.values()) == {RECIPIENTS * len(send_ids)}, row

    undisturbed, job_id = send()
    await_jobs(platform, [job_id], 60)
    job = admin.job(job_id)
    took = datetime.fromisoformat(job["completedAt"]) - datetime.fromisoformat(job["startedAt"])
    assert job["progress"]["total"] == RECIPIENTS
    assert job["result"] == {"recipients": RECIPIENTS, "delivered": RECIPIENTS, "suppressed": 0}
    assert_each_once([undisturbed])

    worker = platform.stack.process("worker")
    disturbed, job_id = send()
    began = time.monotonic()
    for enough in (1_000, 4_000):
        until(lambda enough=enough: written(disturbed) >= enough, f"{enough} notifications", 60)  # type: ignore[misc]
        for child in worker.descendants():
            # The pool's processes, which are the worker's own children's children.
            if not child.children():
                child.kill()
    await_jobs(platform, [job_id], 90)
    print(
        f"\n{RECIPIENTS} recipients in {took.total_seconds():.1f} s; with its process killed twice in "
        f"{time.monotonic() - began:.1f} s, attempt {admin.job(job_id)['attempt']}"
    )
    assert_each_once([undisturbed, disturbed])


NEWS = {"type": "informational", "title": "News", "message": "There is news."}


def test_a_mail_server_that_is_away_for_a_while_loses_nothing_and_doubles_nothing(
    platform: Platform, mail_server: MailServer
) -> None:
    operator = platform.operator()
    people = [platform.newcomer() for _ in range(5)]
    body = {**NEWS, "title": "While away", "userIds": [each.id for each in people], "channels": ["email"]}
    mail_server.stop()
    gone_at = time.monotonic()
    sent = operator.ask("POST", "/api/notifications", body, 202)
    job = operator.await_status(sent["jobs"][0]["jobId"], "completed", "failed", seconds=30)
    assert (job["status"], job["attempt"], job["result"]["waiting"]) == ("completed", 3, 5)
    assert operator.get(f"/api/notification-sends/{sent['id']}")["perChannel"]["email"]["pending"] == 5
    time.sleep(max(0.0, gone_at + AWAY_SECONDS - time.monotonic()))
    mail_server.start()

    def all_sent() -> bool:
        return bool(operator.get(f"/api/notification-sends/{sent['id']}")["status"] == "completed")

    # After a rest the provider is asked by one mail; the others come with the next wait, five times as long.
    until(all_sent, "all mails to leave", 8 * RETRY_SECONDS + 70)
    assert [mail_server.to(each) for each in people] == [["While away"]] * 5
    trace = operator.get(f"/api/notifications/{sent['id']}/trace")["data"]
    assert {(each["status"], each["provider"]) for each in trace} == {("sent", "smtp")}
    assert all(each["attempts"] > 1 for each in trace if each["error"])
