"""Notifications to audiences under faults: each recipient hears of it, and once, though senders and servers die."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime

import psutil
import pytest

from devstack.processes import Process
from tests.acceptance.mail_server import MailServer
from tests.acceptance.platform import Platform
from tests.acceptance.receiver import Receiver
from tests.acceptance.sends import IS_LONG, MESSAGE_RETRY_SECONDS, NEWS, Crowd, Send
from tests.acceptance.waiting import until

pytestmark = [pytest.mark.xdist_group("news faults"), pytest.mark.timeout(900 if IS_LONG else 300)]

INBOXES = 10_000
MAILS = 2_000
HELD_MAILS = 400
# How long the mail server is away.
AWAY_SECONDS = 60 if IS_LONG else 6


@pytest.fixture
def platform(notifying: Platform) -> Iterator[Platform]:
    """A platform with a mail server that may be hurt."""
    notifying.mend()
    yield notifying
    notifying.mend()


def pool(worker: Process) -> list[psutil.Process]:
    """The processes in which a worker runs jobs."""
    return [each for each in worker.descendants() if not each.children()]


def kill_pool(worker: Process) -> int:
    """Kill the processes in which a worker runs jobs, for it to start others; how many they were."""
    children = pool(worker)
    for child in children:
        child.kill()
    return len(children)


def kill_worker(platform: Platform) -> int:
    """Kill the worker with all its processes and start it again; how many ran jobs."""
    worker = platform.stack.process("worker")
    children = len(pool(worker))
    worker.kill()
    # That jobs are rescued when their leases have run out, after 30 s, is another test's.
    platform.records.rows("UPDATE jobs SET lease_expires_at = now() WHERE status = 'active'")
    worker.start()
    return children


def kill_delivery(platform: Platform, send: Send) -> int:
    """Kill the delivery worker and start it again; how many messages nobody sends any more are due at once."""
    delivery = platform.stack.process("delivery")
    delivery.kill()
    under_way = send.end_leases()
    delivery.start()
    return under_way


def assert_mailed_once(send: Send, mail_server: MailServer, killed: int, unanswered: int) -> None:
    """Everybody has the mail; twice, and can know it for the same, only he one of whose senders was killed.

    `killed` are the senders, `unanswered` those of them whose mail the server had taken without their knowledge.
    """
    __tracebackhide__ = True
    mails = mail_server.mails(send.title)
    came = Counter(mail.to for mail in mails)
    assert set(came) == send.crowd.addresses
    assert len({(mail.to, mail.message_id) for mail in mails}) == len({mail.message_id for mail in mails}) == len(came)
    interrupted = send.interrupted()
    twice = {address for address, times in came.items() if times > 1}
    assert twice <= interrupted
    assert unanswered <= len(twice) <= len(interrupted) <= killed
    assert max(came.values()) == 2


def test_ten_thousand_recipients_each_hear_of_it_once_though_workers_are_killed(
    platform: Platform, receiver: Receiver
) -> None:
    crowd = Crowd.of(platform, INBOXES)
    crowd.admin.add_webhook(receiver.url, "notification")

    def assert_each_once(*sends: Send) -> None:
        (row,) = platform.records.rows(
            """
            SELECT count(*) AS written, count(DISTINCT (send_id, user_id)) AS once,
                (SELECT sum(unread) FROM inboxes WHERE user_id IN
                    (SELECT user_id FROM notifications WHERE send_id = ANY(%s::uuid[]))) AS counted
            FROM notifications WHERE send_id = ANY(%s::uuid[])
            """,
            *([send.id for send in sends],) * 2,
        )
        assert set(row.values()) == {INBOXES * len(sends)}, row
        for send in sends:
            until(lambda send=send: hooks(send), f"the webhook of {send.title}", 60)  # type: ignore[misc]
            assert len(hooks(send)) == 1

    def hooks(send: Send) -> set[str]:
        return {post.webhook_id for post in receiver.posts() if post.document["data"]["title"] == send.title}

    undisturbed = crowd.send("in_app")
    undisturbed.await_jobs(60)
    job = crowd.admin.job(undisturbed.job_id)
    took = datetime.fromisoformat(job["completedAt"]) - datetime.fromisoformat(job["startedAt"])
    assert job["progress"]["total"] == INBOXES
    assert job["result"] == {"recipients": INBOXES, "delivered": INBOXES, "suppressed": 0}
    assert_each_once(undisturbed)

    disturbed = crowd.send("in_app")
    began = time.monotonic()

    def await_written(count: int) -> None:
        until(lambda: disturbed.written() >= count, lambda: f"{count} inboxes; {disturbed.written()}", 60)

    for enough in (1_000, 4_000):
        await_written(enough)
        kill_pool(platform.stack.process("worker"))
    await_written(7_000)
    # With it dies who rescues the job, tells what was not told, and delivers the webhook.
    delivery = platform.stack.process("delivery")
    delivery.kill()
    kill_worker(platform)
    delivery.start()
    disturbed.await_jobs(90)
    attempts = crowd.admin.job(disturbed.job_id)["attempt"]
    assert attempts > 1
    print(
        f"\n{INBOXES} inboxes in {took.total_seconds():.1f} s; with its process killed twice, then everything, in "
        f"{time.monotonic() - began:.1f} s, attempt {attempts}"
    )
    assert_each_once(undisturbed, disturbed)


def test_two_thousand_mails_leave_though_workers_are_killed(platform: Platform, mail_server: MailServer) -> None:
    crowd = Crowd.of(platform, MAILS)
    began = time.monotonic()
    send = crowd.send("email")

    def await_mails(count: int) -> None:
        until(lambda: mail_server.count(send.title) >= count, lambda: f"{count} mails; {send.jobs()}", 60)

    await_mails(300)
    with mail_server.silent(senders=platform.stack.settings.concurrency):
        unanswered = kill_pool(platform.stack.process("worker"))
    await_mails(800)
    killed = unanswered + kill_worker(platform)
    await_mails(1_300)
    killed += kill_pool(platform.stack.process("worker"))
    send.await_jobs(60)
    # The outbox has what was under way when its job was killed.
    assert unanswered <= kill_delivery(platform, send) <= killed
    send.await_sent(60)
    print(f"\n{MAILS} mails with {killed} senders killed: {time.monotonic() - began:.1f} s")
    assert_mailed_once(send, mail_server, killed, unanswered)


def test_held_mails_leave_when_their_hour_comes_though_the_outbox_is_killed(
    platform: Platform, mail_server: MailServer
) -> None:
    crowd = Crowd.of(platform, HELD_MAILS)
    # Hours that begin and end alike last all day.
    platform.records.rows(
        """UPDATE users SET quiet_hours = '{"start": "00:00", "end": "00:00"}' WHERE email = ANY(%s)""",
        list(crowd.addresses),
    )
    send = crowd.send("email")
    send.await_jobs(30)
    assert send.report["perChannel"]["email"]["held"] == HELD_MAILS
    assert not mail_server.mails(send.title)
    # In place of waiting until midnight.
    platform.records.rows("UPDATE channel_messages SET next_attempt_at = now() WHERE send_id = %s", send.id)
    killed = 0
    # What was interrupted goes behind what was due before: so far apart, no mail is interrupted twice.
    for count in (50, 300):
        until(lambda count=count: mail_server.count(send.title) >= count, f"{count} mails", 30)  # type: ignore[misc]
        with mail_server.silent(senders=1):
            killed += kill_delivery(platform, send)
    send.await_sent(60)
    assert_mailed_once(send, mail_server, killed, unanswered=2)


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
    until(all_sent, "all mails to leave", 8 * MESSAGE_RETRY_SECONDS + 70)
    assert Counter(mail.to for mail in mail_server.mails("While away")) == Counter(each.email for each in people)
    trace = operator.get(f"/api/notifications/{sent['id']}/trace")["data"]
    assert {(each["status"], each["provider"]) for each in trace} == {("sent", "smtp")}
    assert all(each["attempts"] > 1 for each in trace if each["error"])
