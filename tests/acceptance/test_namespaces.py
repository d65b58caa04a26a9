"""The namespaces `/queue` and `/notifications`, who hears what in each, and the state of the queues for operators."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import socketio

from tests.acceptance.journal import Heard, Journal
from tests.acceptance.platform import Person, Platform
from tests.acceptance.sockets import Socket
from tests.acceptance.waiting import until

pytestmark = pytest.mark.xdist_group("platform")

NAMESPACES = ("/", "/queue", "/notifications")
UPDATE = {"eventType", "jobId", "jobType", "userId", "progress", "stage", "timestamp", "eventId"}
MORE = {
    "job-queued": {"queuePosition", "estimatedWaitSeconds"},
    "job-completed": {"result"},
    "job-failed": {"error"},
    "job-cancelled": {"reason"},
}


def updates(journal: Journal, job_id: str, last: str) -> list[Any]:
    """What `/queue` told of a job up to an event of this type."""

    def told(heard: list[Heard]) -> list[Any]:
        about = [each.data for each in heard if each.name == "queue-update" and each.data["jobId"] == job_id]
        return about if last in [each["eventType"] for each in about] else []

    return journal.until(told, f"{last} of job {job_id}")


def assert_in_the_words_of_the_contract(update: Any, person: Person) -> None:
    assert update.keys() == UPDATE | MORE.get(update["eventType"], set()), update
    assert (update["jobType"], update["userId"]) == ("demo-steps", person.id)
    assert 0 <= update["progress"] <= 100
    assert isinstance(update["stage"], str)
    assert update["timestamp"].endswith("Z")
    assert abs(datetime.fromisoformat(update["timestamp"]) - datetime.now(UTC)) < timedelta(seconds=60)


def test_queue_tells_every_turn_of_a_job_in_one_kind_of_event(platform: Platform) -> None:
    person = platform.newcomer()
    with person.socket("/queue") as socket:
        completed = person.submit(payload={"steps": 3, "sleepMs": 150})
        told = updates(socket.journal, completed, "job-completed")
        kinds = [each["eventType"] for each in told]
        assert kinds == ["job-queued", "job-started", *["job-progress"] * 3, "job-completed"]
        assert told[0]["queuePosition"] >= 1
        assert [each["stage"] for each in told[2:5]] == [f"Step {step} of 3" for step in (1, 2, 3)]
        assert [each["progress"] for each in told] == [0, 0, 33.3, 66.7, 100, 100]
        assert told[-1]["result"] == {"steps": 3, "attempt": 1}

        failed = person.submit(payload={"steps": 2, "failAt": 2, "permanent": True})
        more = updates(socket.journal, failed, "job-failed")
        assert more[-1]["error"] == {"message": "Failed for good at step 2", "code": "demo_failure"}

        cancelled = person.submit(delay=600)
        person.ask("DELETE", f"/api/jobs/{cancelled}", {"reason": "wrong video"})
        last = updates(socket.journal, cancelled, "job-cancelled")
        assert last[-1]["reason"] == "wrong video"

        for update in (*told, *more, *last):
            assert_in_the_words_of_the_contract(update, person)
        numbers = [number(each) for each in socket.journal.heard if each.name == "queue-update"]
        assert numbers == sorted(set(numbers))
        assert {each.name for each in socket.journal.heard} == {"authenticated", "queue-update"}


def number(event: Heard) -> int:
    return int(event.data["eventId"].partition("-")[2])


def test_a_queue_client_that_was_away_hears_what_it_missed_once(platform: Platform) -> None:
    person = platform.newcomer()
    with person.socket("/queue") as socket, person.socket("/queue") as present:
        first = person.submit()
        updates(socket.journal, first, "job-started")
        socket.close()
        missed = person.submit()
        for job_id in (first, missed):
            updates(present.journal, job_id, "job-completed")
        with person.socket("/queue", last_event_id=socket.last_event_id) as back:
            resumed = back.journal.first("resumed")
            last = person.submit()
            for each in (back, present):
                updates(each.journal, last, "job-completed")
            told = [each for each in socket.journal.heard + back.journal.heard if each.name == "queue-update"]
            assert told == [each for each in present.journal.heard if each.name == "queue-update"]
            assert resumed["recovered"] is True
            assert resumed["count"] >= 3


def test_devices_agree_on_what_is_read(platform: Platform) -> None:
    person = platform.newcomer()
    with person.socket("/notifications") as phone, person.socket("/notifications") as laptop:
        devices = (phone, laptop)
        for device in devices:
            assert device.journal.first("unread-count") == {"count": 0, "version": 0}
        job_id = person.submit()
        notification = phone.journal.first("notification", job_id)
        assert laptop.journal.first("notification", job_id) == notification
        path = f"/api/notifications/{notification['id']}"
        for method, address, name in (
            ("PATCH", f"{path}/read", "notification:read"),
            ("PATCH", f"{path}/unread", "notification:unread"),
            ("DELETE", path, "notification:deleted"),
        ):
            person.ask(method, address)
            for device in devices:
                assert device.journal.first(name)["id"] == notification["id"]
        for device in devices:
            assert_agrees(device.journal, person)
        assert [each for each in phone.journal.heard if "eventId" in each.data] == [
            each for each in laptop.journal.heard if "eventId" in each.data
        ]
        # Nothing of jobs is told here.
        assert not [each.name for each in phone.journal.heard if each.name.startswith("job:")]


def assert_agrees(journal: Journal, person: Person) -> None:
    """The last count heard is that of REST, and no count was older than the one before it."""
    truth = person.get("/api/notifications/unread-count")
    journal.until(lambda heard: counts(heard)[-1:] == [(truth["version"], truth["count"])], f"the count {truth}")
    versions = [version for version, _ in counts(journal.heard)]
    assert versions == sorted(versions)


def counts(heard: list[Heard]) -> list[tuple[int, int]]:
    return [(each.data["version"], each.data["count"]) for each in heard if each.name == "unread-count"]


def test_forty_sockets_of_one_user_end_with_the_same_count(platform: Platform) -> None:
    person = platform.newcomer()
    with ExitStack() as stack:
        sockets = [stack.enter_context(person.socket("/notifications", transports=["websocket"])) for _ in range(40)]
        job_ids = person.submit_many(6)
        for job_id in job_ids:
            sockets[0].journal.first("notification", job_id)
        inbox = person.get("/api/notifications")
        first, second, *_ = [each["id"] for each in inbox["data"]]
        # Two devices at once, and one that takes everything.
        person.ask("PATCH", f"/api/notifications/{first}/read")
        person.ask("DELETE", f"/api/notifications/{second}")
        person.ask("PATCH", f"/api/notifications/{first}/unread")
        person.ask("PATCH", "/api/notifications/read-all")
        for job_id in job_ids:
            person.await_status(job_id, "completed")
        truth = person.get("/api/notifications/unread-count")
        recount = person.get("/api/notifications?unread=true&limit=1")["pagination"]["total"]
        assert truth["count"] == recount
        for socket in sockets:
            assert_agrees(socket.journal, person)


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_the_token_may_come_later_in_each_namespace(platform: Platform, namespace: str) -> None:
    person = platform.newcomer()
    with Socket(platform.url, namespace=namespace).connect() as socket:
        refused = socket.call("authenticate", {"token": "forged"})
        assert (refused["ok"], refused["error"]["code"]) == (False, "invalid_token")
        assert socket.call("authenticate", {})["ok"] is False
        unheard = person.submit()
        person.await_status(unheard, "completed")
        accepted = socket.call("authenticate", {"token": person.token})
        assert (accepted["ok"], accepted["userId"]) == (True, person.id)
        assert socket.journal.first("authenticated")["userId"] == person.id
        job_id = person.submit()
        socket.journal.until(lambda heard: [each for each in heard if each.job_id == job_id], "news of the job")
        assert not [each for each in socket.journal.heard if each.job_id == unheard]
        # Nobody else may take the socket over.
        stolen = socket.call("authenticate", {"token": platform.newcomer().token})
        assert (stolen["ok"], stolen["error"]["code"]) == (False, "invalid_token")


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_bad_token_is_refused_in_each_namespace(platform: Platform, namespace: str) -> None:
    socket = Socket(platform.url, namespace=namespace)
    with pytest.raises(socketio.exceptions.ConnectionError):
        socket.connect("forged")
    until(lambda: socket.refusals, "connect_error")
    assert socket.refusals[0]["data"]["code"] == "invalid_token"
    assert socket.refusals[0]["message"]
    socket.close()


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_nothing_of_other_users_is_heard(platform: Platform, namespace: str) -> None:
    alice, bob, operator = platform.newcomer(), platform.newcomer(), platform.operator()
    with alice.socket(namespace) as own, operator.socket(namespace) as nosy:
        foreign = bob.submit(payload={"steps": 2})
        bob.await_status(foreign, "completed")
        bob.ask("PATCH", "/api/notifications/read-all")
        for person, socket in ((alice, own), (operator, nosy)):
            job_id = person.submit()
            socket.journal.until(lambda heard, job_id=job_id: [each for each in heard if each.job_id == job_id], "own")  # type: ignore[misc]
            assert foreign not in str(socket.journal.heard)
            assert bob.id not in str(socket.journal.heard)


def test_operators_of_the_installation_hear_how_the_queues_stand(platform: Platform) -> None:
    person, stranger, operator = platform.newcomer(), platform.stranger(), platform.operator()
    with person.socket() as own, stranger.socket() as foreign, operator.socket() as watching:
        job_ids = person.submit_many(4, {"steps": 10, "sleepMs": 300})
        own.journal.first("job:started", job_ids[0])
        watching.journal.until(
            lambda heard: stats(heard, lambda each: each["processing"] >= 1), "a job under way in queue:stats"
        )
        for job_id in job_ids:
            person.ask("DELETE", f"/api/jobs/{job_id}")
        watching.journal.until(
            lambda heard: (
                stats(heard, lambda each: True)[-1:]
                and not stats(heard, lambda each: True)[-1]["processing"]
                and not stats(heard, lambda each: True)[-1]["pending"]
            ),
            "that nothing waits any more",
        )
        told = stats(watching.journal.heard, lambda each: True)
        for each in told:
            assert each.keys() == {"pending", "processing", "perQueue", "ratePerMinute"}
            assert each["perQueue"]["default"].keys() == {"pending", "processing", "ratePerMinute"}
        assert all(one != following for one, following in pairwise(told)), "told without a change"
        # An own event, as proof that there was something to hear.
        foreign.journal.first("job:created", stranger.submit(delay=600))
        for socket in (own, foreign):
            assert "queue:stats" not in {each.name for each in socket.journal.heard}


def stats(heard: list[Heard], such: Callable[[Any], bool]) -> list[Any]:
    return [each.data for each in heard if each.name == "queue:stats" and such(each.data)]
