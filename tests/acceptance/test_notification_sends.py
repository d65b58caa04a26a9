"""Notifications to audiences on real processes: S3's script, quiet hours, and what is sent later."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests

from tests.acceptance.mail_server import MailServer
from tests.acceptance.platform import Person, Platform
from tests.acceptance.receiver import Receiver
from tests.acceptance.sends import NEWS
from tests.acceptance.waiting import until

pytestmark = pytest.mark.xdist_group("news faults")

# East of UTC by half an hour more than whole hours, all year.
ZONE = ZoneInfo("Asia/Kolkata")


@pytest.fixture
def platform(notifying: Platform) -> Platform:
    """A platform with a mail server."""
    return notifying


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
    (mail,) = mail_server.mails("Test Notification")
    assert mail.to == user.email
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


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_quiet_hours_hold_the_mail_and_not_the_inbox_until_they_end(
    platform: Platform, mail_server: MailServer
) -> None:
    operator, user = platform.operator(), platform.newcomer()
    user.ask("PATCH", "/api/auth/me", {"timezone": ZONE.key})
    clock = datetime.now(ZONE)
    hours = {"start": f"{clock - timedelta(hours=1):%H:%M}", "end": f"{clock + timedelta(hours=1):%H:%M}"}
    user.ask("PUT", "/api/notifications/quiet-hours", hours)

    def send(title: str) -> dict[str, Any]:
        """What became of it by each channel, once it is in the inbox."""
        body = {**NEWS, "title": title, "userId": user.id, "channels": ["in_app", "email"]}
        accepted = operator.ask("POST", "/api/notifications", body, 202)
        await_jobs(platform, [job["jobId"] for job in accepted["jobs"]])
        (own,) = [each for each in user.get("/api/notifications")["data"] if each["title"] == title]
        return {"id": own["id"], **traced(user, own["id"])}

    kept = send("At night")
    assert kept["in_app"]["status"] == "delivered"
    assert (kept["email"]["status"], kept["email"]["reason"]) == ("held", "quiet_hours")
    ends = moment(kept["email"]["nextAttemptAt"])
    assert f"{ends.astimezone(ZONE):%H:%M:%S}" == f"{hours['end']}:00"
    assert timedelta(minutes=58) < ends - clock < timedelta(hours=1)

    # Over the API hours end on the minute, for which no test waits.
    soon = datetime.now(ZONE) + timedelta(seconds=5)
    platform.records.rows(
        "UPDATE users SET quiet_hours = quiet_hours || jsonb_build_object('end', %s) WHERE id = %s",
        f"{soon:%H:%M:%S}",
        user.id,
    )
    shortly = send("At dawn")
    assert (shortly["email"]["status"], shortly["email"]["reason"]) == ("held", "quiet_hours")
    ends = moment(shortly["email"]["nextAttemptAt"])
    assert ends == soon.replace(microsecond=0)
    (mail,) = until(lambda: mail_server.mails("At dawn", user.email), "the mail in the morning")
    assert mail.taken_at >= ends.timestamp()
    until(lambda: traced(user, shortly["id"])["email"]["status"] == "sent", "that it is known to have left")
    # What was held before keeps its time.
    assert traced(user, kept["id"])["email"] == kept["email"]
    assert not mail_server.mails("At night")


def traced(person: Person, notification_id: str) -> dict[str, Any]:
    """What became of somebody's notification, by channel."""
    return {each["channel"]: each for each in person.get(f"/api/notifications/{notification_id}/trace")["data"]}


def test_what_is_sent_later_goes_out_by_itself_at_its_time_and_not_before(
    platform: Platform, mail_server: MailServer
) -> None:
    operator, user = platform.operator(), platform.newcomer()
    at = datetime.now(UTC) + timedelta(seconds=4)
    body = {**NEWS, "title": "Later", "userId": user.id, "channels": ["in_app", "email"], "sendAt": at.isoformat()}
    accepted = operator.ask("POST", "/api/notifications", body, 202)
    report = operator.get(f"/api/notification-sends/{accepted['id']}")
    assert (report["status"], {job["status"] for job in report["jobs"]}) == ("scheduled", {"scheduled"})
    with user.stream("/api/notifications/stream") as stream:
        assert user.get("/api/notifications")["data"] == []
        told = stream.journal.first("notification")
        heard_at = time.time()
    assert told["title"] == "Later"
    assert heard_at >= at.timestamp()
    (mail,) = until(lambda: mail_server.mails("Later", user.email), "the mail")
    assert mail.taken_at >= at.timestamp()
    await_jobs(platform, [job["jobId"] for job in accepted["jobs"]])
    for job in accepted["jobs"]:
        assert moment(operator.job(job["jobId"])["startedAt"]) >= at - timedelta(milliseconds=1)
