"""Webhooks under faults, and endpoints that are a fault: nothing is lost, and nobody waits for somebody else's."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing
from typing import Any

import pytest

from tests.acceptance.platform import Person, Platform
from tests.acceptance.receiver import Post, Receiver
from tests.acceptance.waiting import until

pytestmark = pytest.mark.xdist_group("news faults")

# Far below what a hanging endpoint costs whoever waits for it.
PROMPT_SECONDS = 5.0


class Abyss:
    """Takes connections and never says a word."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._taken: list[socket.socket] = []
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/hook"

    @property
    def connections(self) -> int:
        return len(self._taken)

    def _take(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._taken.append(connection)

    def close(self) -> None:
        # Closed alone it would keep the thread in its accept.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for connection in self._taken:
            connection.close()


def deliveries(person: Person, webhook: Any, query: str = "") -> list[Any]:
    page: list[Any] = person.get(f"/api/webhooks/{webhook['id']}/deliveries?limit=100{query}")["data"]
    return page


@pytest.mark.parametrize("victim", ["delivery", "redis"])
def test_what_was_under_way_when_a_process_was_killed_arrives_under_the_same_id(
    platform: Platform, person: Person, victim: str
) -> None:
    under_way = threading.Event()
    go_on = threading.Event()

    def answer(post: Post) -> int:
        under_way.set()
        go_on.wait(30)
        return 204

    with Receiver(answer) as receiver:
        webhook = person.add_webhook(receiver.url)
        job_ids = person.submit_many(12)
        assert under_way.wait(20)
        if victim == "redis":
            assert platform.stack.redis
            platform.stack.redis.restart()
        else:
            platform.stack.process(victim).kill()
            platform.stack.process(victim).start()
        go_on.set()
        until(
            lambda: [each["status"] for each in deliveries(person, webhook)] == ["delivered"] * 12,
            lambda: f"twelve delivered; {Counter(each['status'] for each in deliveries(person, webhook))}",
            60,
        )
        posts = receiver.posts(type_="job.completed")
        ids = {post.webhook_id: post.job_id for post in posts}
        assert Counter(ids.values()) == Counter(job_ids), "each event has one id, however often it came"
        assert {each["id"] for each in deliveries(person, webhook)} == set(ids)


def test_endpoints_that_hang_or_fail_keep_nobody_else_waiting(platform: Platform, person: Person) -> None:
    with ExitStack() as stack:
        healthy = [stack.enter_context(Receiver()) for _ in range(3)]
        broken = stack.enter_context(Receiver(lambda post: 500))
        abyss = stack.enter_context(closing(Abyss()))
        for receiver in healthy:
            person.add_webhook(receiver.url)
        bad = [person.add_webhook(f"{abyss.url}/{number}") for number in range(2)]
        bad.append(person.add_webhook(broken.url))
        job_ids = person.submit_many(60)
        for job_id in job_ids:
            person.await_status(job_id, "completed", seconds=60)
        ended_at = time.time()
        for receiver in healthy:
            until(
                lambda receiver=receiver: len(receiver.posts()) == len(job_ids),
                lambda receiver=receiver: f"{len(job_ids)} webhooks; {len(receiver.posts())} came",
                PROMPT_SECONDS,
            )
            assert max(post.received_at for post in receiver.posts()) - ended_at < PROMPT_SECONDS
        for webhook in bad:
            until(
                lambda webhook=webhook: person.get(f"/api/webhooks/{webhook['id']}")["circuit"]["state"] != "closed",
                lambda: "the circuits of the bad endpoints open",
                40,
            )
            waiting = [each for each in deliveries(person, webhook) if each["status"] != "delivered"]
            assert len(waiting) == len(job_ids), "what they did not take is kept for them"
        assert abyss.connections < 2 * 40, "who hangs is asked by few at once"


def test_a_broken_endpoint_that_is_mended_gets_everything(platform: Platform, person: Person) -> None:
    is_broken = threading.Event()
    is_broken.set()
    with Receiver(lambda post: 503 if is_broken.is_set() else 204) as receiver:
        webhook = person.add_webhook(receiver.url)
        job_ids = person.submit_many(20)
        until(
            lambda: person.get(f"/api/webhooks/{webhook['id']}")["circuit"]["state"] != "closed",
            lambda: "an open circuit",
            20,
        )
        asked = len(receiver.posts())
        is_broken.clear()
        until(
            lambda: {each["status"] for each in deliveries(person, webhook)} == {"delivered"},
            lambda: f"all delivered; {Counter(each['status'] for each in deliveries(person, webhook))}",
            60,
        )
        accepted = receiver.posts(type_="job.completed")[asked:]
        assert {post.job_id for post in accepted} == set(job_ids)
        assert person.get(f"/api/webhooks/{webhook['id']}")["circuit"]["state"] == "closed"


def test_a_rate_is_kept_by_the_platform(platform: Platform, person: Person, receiver: Receiver) -> None:
    body = {"url": receiver.url, "eventType": "completed", "rateLimit": 5}
    person.ask("POST", "/api/webhooks", body, 201)
    job_ids = person.submit_many(12)
    until(lambda: len(receiver.posts()) == len(job_ids), lambda: f"{len(receiver.posts())} of 12", 30)
    moments = sorted(post.received_at for post in receiver.posts())
    # Five a second, evenly; a tenth of slack for the way.
    assert all(later - earlier > 0.9 for earlier, later in zip(moments, moments[5:], strict=False)), moments
