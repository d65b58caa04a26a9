"""What a message costs the broker, and the ticks that share one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from kombu import Connection, Consumer, Queue

from service.redis_client import redis

pytestmark = pytest.mark.usefixtures("app")


@pytest.fixture
def connection(app: Flask) -> Iterator[Connection]:
    """A connection as workers have one."""
    from service.queue import celery_app

    with app.app_context(), celery_app.connection_for_read() as connection:
        yield connection


def take_one(connection: Connection, queue: Queue) -> tuple[Any, Any]:
    """Send a message to a queue and read it; the channel and the message, which a worker acknowledges in any case."""
    channel = connection.channel()
    connection.Producer(channel).publish({}, routing_key=queue.name, declare=[queue])
    messages: list[Any] = []
    with Consumer(channel, [queue], callbacks=[lambda _, message: messages.append(message)]):
        connection.drain_events(timeout=5)
    return channel, messages[0]


def transactions() -> int:
    """How many transactions Redis has run."""
    return int(redis().info("commandstats").get("cmdstat_exec", {"calls": 0})["calls"])


def test_a_message_of_a_queue_of_ours_is_gone_once_it_is_read(connection: Connection) -> None:
    from service.queue import celery_app

    # A queue of this test's own, with the options of the real ones.
    options = celery_app.amqp.queues["housekeeping"]
    channel, message = take_one(connection, Queue("broker-test", no_ack=options.no_ack))
    before = transactions()
    message.ack()
    assert transactions() == before, "the acknowledgement of what needs none costs nothing"
    assert not channel.qos._dirty, "and nothing is kept of it"


def test_a_message_that_waits_for_its_acknowledgement_gets_it(connection: Connection) -> None:
    channel, message = take_one(connection, Queue("broker-test-acknowledged", no_ack=False))
    with channel.conn_or_acquire() as client:
        assert client.hlen(channel.unacked_key) == 1
    message.ack()
    with channel.conn_or_acquire() as client:
        assert client.hlen(channel.unacked_key) == 0


def test_ticks_that_share_a_message_run_although_one_is_broken(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    import celeryconfig
    from tasks import housekeeping

    known = {name for entry in celeryconfig.beat_schedule.values() for name in entry["args"]}
    assert {f"{housekeeping.__name__}.{name}" for name in known} <= set(housekeeping.celery_app.tasks)
    ran = []

    def run_due() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(housekeeping, "run_due", run_due)
    monkeypatch.setattr(housekeeping, "settle_ended", lambda: ran.append("settle") or 0)
    with app.app_context():
        housekeeping.attend("run_schedules", "settle")
    assert ran == ["settle"]
