"""One job the whole way: REST, Celery, sockets, inbox, webhook, polling, Flower."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests
import socketio
from standardwebhooks import Webhook

from tests.acceptance.journal import Journal
from tests.acceptance.platform import Person, Platform
from tests.acceptance.receiver import Receiver
from tests.acceptance.sockets import Socket, node_socket
from tests.acceptance.waiting import until
from tests.factories.media_tree import made_files, write_files

pytestmark = pytest.mark.xdist_group("platform")

REBUILD_STAGES = [
    (25, "Validating connection..."),
    (50, "Fetching schema metadata..."),
    (75, "Processing schema data..."),
    (100, "Schema rebuild completed"),
]
LIFE = ("job:created", "job:started", "job:progress", "job:completed")


@pytest.fixture
def node(platform: Platform, node_folder: Path) -> Iterator[Any]:
    """Starts Node clients: `node(person)` gives the journal of one that is connected."""
    with ExitStack() as clients:
        yield lambda person: clients.enter_context(node_socket(node_folder, person.url, person.token))


def test_a_schema_rebuild_is_seen_everywhere(platform: Platform, receiver: Receiver, node: Any) -> None:
    wait_until_flower_watches(platform)
    person = platform.administrator()
    unread_before = person.get("/api/notifications")["unreadCount"]
    webhook = person.add_webhook(receiver.url, "all")
    connection = person.ask(
        "POST", "/api/connections", {"name": "the platform itself", "url": platform.stack.database_url}, 201
    )
    with person.socket() as python_client:
        node_journal = node(person)
        answer = person.ask("POST", f"/api/connections/{connection['id']}/rebuild", {"force": True}, 202)
        job_id = answer["jobId"]
        for journal in (python_client.journal, node_journal):
            journal.first("job:completed", job_id)
            assert_seen_in_order(journal, job_id)
            stages = [
                (each.data["percentage"], each.data["progress"]["message"])
                for each in journal.about(job_id, "job:progress")
            ]
            # Between the stages it tells of single tables.
            assert list(dict.fromkeys(stages)) == REBUILD_STAGES
        assert same_life(python_client.journal, job_id) == same_life(node_journal, job_id)

    job = person.job(job_id)
    assert_polled_as_completed(job)
    assert job["result"]["success"] is True
    assert job["progress"]["percentage"] == 100
    schema = person.get(f"/api/connections/{connection['id']}/schema")["schema"]
    tables = {table["name"] for each in schema["schemas"] for table in each["tables"]}
    assert {"jobs", "users", "notifications", "webhooks"} <= tables

    inbox = person.get("/api/notifications?limit=100")
    about_it = [each for each in inbox["data"] if each["data"].get("jobId") == job_id]
    assert [each["type"] for each in reversed(about_it)] == ["job_queued", "job_started", "job_completed"]
    assert inbox["unreadCount"] - unread_before == len(about_it)

    assert_webhook_verifies(receiver, webhook["secret"], job, person)
    assert {"job.created", "job.started", "job.progress", "job.completed"} <= {
        post.type for post in receiver.posts(job_id)
    }
    assert_flower_shows(platform, job)


def test_a_library_of_a_thousand_files_is_scanned_in_everybodys_sight(
    platform: Platform, receiver: Receiver, node: Any
) -> None:
    wait_until_flower_watches(platform)
    person = platform.newcomer()
    webhook = person.add_webhook(receiver.url)
    folder = platform.stack.settings.var_folder / "media" / "thousand"
    write_files(folder, made_files(1000))
    library = person.ask("POST", "/api/libraries", {"name": "a thousand", "path": str(folder)}, 201)
    with person.socket() as python_client:
        node_journal = node(person)
        job_id = person.ask("POST", f"/api/libraries/{library['id']}/scan", None, 202)["jobId"]
        for journal in (python_client.journal, node_journal):
            journal.first("job:completed", job_id, seconds=60)
            assert_seen_in_order(journal, job_id)
            assert_scan_progress(journal, job_id)
    job = person.job(job_id)
    assert_polled_as_completed(job)
    result = job["result"]
    assert (result["files"], result["added"], result["gone"]) == (1000, 1000, 0)
    assert person.get(f"/api/libraries/{library['id']}/items?limit=1")["pagination"]["total"] == 1000
    inbox = person.get("/api/notifications")
    assert [each["type"] for each in inbox["data"]] == ["job_completed", "job_started"]
    assert inbox["unreadCount"] == 2
    assert_webhook_verifies(receiver, webhook["secret"], job, person)
    assert_flower_shows(platform, job)


def test_a_second_scan_tells_what_is_new_changed_and_gone(platform: Platform) -> None:
    person = platform.newcomer()
    folder = platform.stack.settings.var_folder / "media" / "changing"
    folder.mkdir(parents=True)
    for name in ("Alien (1979).mkv", "Brazil (1985).mkv", "Contact (1997).mkv"):
        (folder / name).write_bytes(b"film")
    library = person.ask("POST", "/api/libraries", {"name": "changing", "path": str(folder)}, 201)

    def scan() -> Any:
        job_id = person.ask("POST", f"/api/libraries/{library['id']}/scan", None, 202)["jobId"]
        return person.await_status(job_id, "completed", "failed")["result"]

    assert scan()["added"] == 3
    (folder / "Alien (1979).mkv").unlink()
    (folder / "Brazil (1985).mkv").write_bytes(b"the director's cut")
    (folder / "Dune (2021).mkv").write_bytes(b"film")
    result = scan()
    assert {name: result[name] for name in ("added", "changed", "gone", "unchanged")} == {
        "added": 1,
        "changed": 1,
        "gone": 1,
        "unchanged": 1,
    }


def test_a_web_node_on_threads_serves_the_whole_way_too(
    platform: Platform, threading_node: str, receiver: Receiver, node: Any
) -> None:
    there = platform.newcomer()
    person = Person(threading_node, there.id, there.username, there.token)
    webhook = person.add_webhook(receiver.url)
    with person.socket() as python_client, there.socket() as on_the_other_node:
        journals = [python_client.journal, on_the_other_node.journal, node(person)]
        job_id = person.submit(payload={"steps": 4, "sleepMs": 150})
        for journal in journals:
            journal.first("job:completed", job_id)
            assert_seen_in_order(journal, job_id)
            assert [each.data["percentage"] for each in journal.about(job_id, "job:progress")] == [25, 50, 75, 100]
    job = person.job(job_id)
    assert_polled_as_completed(job)
    assert_webhook_verifies(receiver, webhook["secret"], job, person)


def test_the_token_may_come_after_the_connection(platform: Platform) -> None:
    person = platform.newcomer()
    with Socket(platform.url).connect() as socket:
        assert not socket.call("subscribe:job", person.submit())["ok"]
        assert socket.call("authenticate", {"token": "forged"})["error"]["code"] == "invalid_token"
        acknowledgement = socket.call("authenticate", {"token": person.token})
        assert acknowledgement["ok"]
        assert socket.journal.first("authenticated")["userId"] == person.id
        job_id = person.submit()
        socket.journal.first("job:completed", job_id)


def test_a_socket_with_a_bad_token_is_refused(platform: Platform) -> None:
    socket = Socket(platform.url)
    with pytest.raises(socketio.exceptions.ConnectionError):
        socket.connect("forged")
    until(lambda: socket.refusals, "connect_error")
    refusal = socket.refusals[0]
    assert refusal["data"]["code"] == "invalid_token"
    socket.close()


def test_only_those_who_may_see_a_job_enter_its_room(platform: Platform) -> None:
    owner, colleague, operator, stranger = (
        platform.newcomer(),
        platform.newcomer(),
        platform.operator(),
        platform.stranger(),
    )
    job_id = owner.submit(payload={"steps": 20, "sleepMs": 100})
    with owner.socket() as own, colleague.socket() as nosy, operator.socket() as watching, stranger.socket() as foreign:
        assert nosy.call("subscribe:job", job_id)["error"]["code"] == "not_allowed"
        assert foreign.call("subscribe:job", {"jobId": job_id})["error"]["code"] == "job_not_found"
        acknowledgement = watching.call("subscribe:job", {"jobId": job_id})
        assert acknowledgement["ok"]
        assert acknowledgement["job"]["id"] == job_id
        assert own.call("subscribe:job", job_id)["ok"]
        for socket in (own, watching):
            socket.journal.first(f"job:{job_id}:progress")
            assert socket.journal.first(f"job:{job_id}:completed")["result"] == {"steps": 20, "attempt": 1}
        own.journal.first("job:completed", job_id)
        # What the owner heard is proof that there was something to hear.
        for socket in (nosy, foreign):
            assert [each.name for each in socket.journal.heard] == ["authenticated"]
        assert {each.name for each in watching.journal.heard} <= {
            "authenticated",
            "queue:stats",
            f"job:{job_id}:progress",
            f"job:{job_id}:completed",
        }


def test_a_client_that_was_away_hears_what_it_missed_once_and_in_order(platform: Platform) -> None:
    person = platform.newcomer()
    first_id = person.submit()
    with person.socket() as socket:
        slow_id = person.submit(payload={"steps": 10, "sleepMs": 150})
        socket.journal.first("job:progress", slow_id)
        last_heard = socket.last_event_id
        before = socket.journal
    assert last_heard
    away_id = person.submit(payload={"steps": 2})
    person.await_status(away_id, "completed")
    with person.socket(last_event_id=last_heard) as socket:
        resumed = socket.journal.first("resumed")
        assert resumed["recovered"] is True
        socket.journal.all_completed([slow_id, away_id])
        heard = socket.journal.assert_complete()
        # The journal before the absence and the one after it are one sequence.
        numbers = [int(number.partition("-")[2]) for number in (last_heard, heard[0])]
        assert numbers[1] == numbers[0] + 1
        names = [each.name for each in before.about(slow_id, *LIFE) + socket.journal.about(slow_id, *LIFE)]
        assert (names[0], names[1], names[-1]) == ("job:created", "job:started", "job:completed")
        assert names.count("job:completed") == 1
        place = next(index for index, each in enumerate(socket.journal.heard) if each.name == "resumed")
        assert resumed["count"] <= place
    assert first_id


@pytest.mark.parametrize("unknown", ["1-1", "9999999999999-7", "nonsense"])
def test_a_number_that_the_log_does_not_know_recovers_nothing(platform: Platform, unknown: str) -> None:
    person = platform.newcomer()
    job_id = person.submit()
    person.await_status(job_id, "completed")
    with person.socket(last_event_id=unknown) as socket:
        assert socket.journal.first("resumed") == {"recovered": False}
        assert {each.name for each in socket.journal.heard} == {"authenticated", "resumed"}
        next_id = person.submit()
        socket.journal.first("job:completed", next_id)
        socket.journal.assert_complete()


def test_the_inbox_read_on_another_device_leaves_no_hole_in_the_numbers(platform: Platform) -> None:
    person = platform.newcomer()
    with person.socket() as socket:
        first_id = person.submit()
        socket.journal.first("job:completed", first_id)
        assert person.get("/api/notifications")["unreadCount"] == 2
        assert person.ask("PATCH", "/api/notifications/read-all") == {"count": 2}
        assert person.get("/api/notifications")["unreadCount"] == 0
        second_id = person.submit()
        socket.journal.first("job:completed", second_id)
        socket.journal.assert_complete()


def test_the_api_is_documented_by_itself(platform: Platform) -> None:
    document = requests.get(f"{platform.url}/api/openapi.json", timeout=10).json()
    assert {"/api/jobs", "/api/webhooks", "/api/notifications", "/api/connections", "/api/libraries"} <= set(
        document["paths"]
    )
    page = requests.get(f"{platform.url}/api/docs", timeout=10)
    assert page.status_code == 200
    # Nothing is fetched from elsewhere.
    assert not re.findall(r"(?:src|href)=\"https?://", page.text)
    for path in re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text):
        assert requests.get(platform.url + path, timeout=10).status_code == 200, path


def assert_seen_in_order(journal: Journal, job_id: str) -> None:
    """Created, started, progress, completed, each numbered and none missing in between."""
    names = [each.name for each in journal.about(job_id, *LIFE)]
    assert names[:2] == ["job:created", "job:started"], names
    assert names[-1] == "job:completed"
    assert set(names[2:-1]) == {"job:progress"}
    journal.assert_complete()


def same_life(journal: Journal, job_id: str) -> list[tuple[str, str]]:
    return [(each.name, each.data["eventId"]) for each in journal.about(job_id, *LIFE)]


def assert_scan_progress(journal: Journal, job_id: str) -> None:
    reports = [each.data["progress"] for each in journal.about(job_id, "job:progress")]
    currents = [report["current"] for report in reports]
    assert currents == sorted(currents)
    assert reports[-1]["current"] == reports[-1]["total"]
    assert reports[-1]["percentage"] == 100
    for report in reports:
        assert re.fullmatch(r"Scanning directory \d+ of \d+", report["message"])
        assert report["detail"]


def assert_polled_as_completed(job: Any) -> None:
    assert job["status"] == "completed"
    assert job["error"] is None
    assert job["attempt"] == 1
    times = [datetime.fromisoformat(job[name]) for name in ("createdAt", "startedAt", "completedAt")]
    assert times == sorted(times)


def assert_webhook_verifies(receiver: Receiver, secret: str, job: Any, person: Person) -> None:
    post = receiver.first(job["id"], "job.completed")
    document = Webhook(secret).verify(post.body.decode(), post.headers)
    assert document["type"] == "job.completed"
    assert document["data"] == {
        "id": job["id"],
        "jobname": job["name"],
        "userId": person.id,
        "result": job["result"],
    }
    assert abs(post.received_at - int(post.headers["webhook-timestamp"])) < 5


def wait_until_flower_watches(platform: Platform) -> None:
    """Flower asks for events some seconds after it starts, and never learns the names of earlier tasks."""
    worker = platform.stack.process("worker")
    until(lambda: "Events of group {task} enabled" in worker.log.read_text(), "Flower's wish for the worker's events")


def assert_flower_shows(platform: Platform, job: Any) -> None:
    """Flower's page of the task, named for the job and its attempt."""
    task_id = f"{job['id']}.{job['attempt']}"
    answer: list[requests.Response] = []

    def shown() -> bool:
        answer[:] = [requests.get(f"{platform.stack.settings.flower_url}/task/{task_id}", timeout=10)]
        return answer[0].status_code == 200 and "SUCCESS" in answer[0].text

    until(shown, lambda: f"Flower's page of task {task_id}; it answered {answer[0].status_code}", 10)
    assert job["type"] in answer[0].text
