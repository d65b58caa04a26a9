"""The AsyncAPI document: true of everything that the sockets and streams say."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
import requests
import socketio
from flask import Flask
from flask.testing import FlaskClient
from jsonschema import Draft7Validator
from werkzeug.serving import make_server

from service.accounts.actions import default_organization_id
from service.events import JobProgressed, publish
from service.jobs import lifecycle
from service.jobs.actions import retry_job
from service.jobs.dependencies import Dependency
from service.jobs.submission import Submission, submit_job
from service.queues import statistics
from service.realtime import sessions, vocabulary
from service.realtime.channels import channels
from service.realtime.log import MAXIMUM_RESULT_BYTES
from service.realtime.vocabulary import DEFAULT, NAMESPACES, NOTIFICATIONS, QUEUE, Message
from tests.conftest import Account, MakeUser
from tests.factories import confidential
from tests.factories.jobs import start
from tests.integration.realtime.documented import Document, problems, recognize

GUIDE = Path(__file__).parents[3] / "docs" / "realtime.md"
ANSWER_SECONDS = 10

Until = Callable[..., Any]


class Heard(NamedTuple):
    """An event as a client heard it."""

    namespace: str
    name: str
    data: Any


class Listener:
    """A client in all namespaces, with everything it has heard."""

    def __init__(self, url: str, auth: dict[str, str]) -> None:
        self.heard: list[Heard] = []
        self.client = socketio.Client(reconnection=False, handle_sigint=False)
        for namespace in NAMESPACES:
            self.client.on("*", self._hear(namespace), namespace=namespace)
            self.client.on("connect_error", self._hear_refusal(namespace), namespace=namespace)
        try:
            self.client.connect(
                url, auth=auth, namespaces=list(NAMESPACES), transports=["websocket"], wait_timeout=ANSWER_SECONDS
            )
        except socketio.exceptions.ConnectionError:
            # It has heard why.
            assert self.heard

    def _hear(self, namespace: str) -> Callable[[str, Any], None]:
        return lambda name, data: self.heard.append(Heard(namespace, name, data))

    def _hear_refusal(self, namespace: str) -> Callable[[Any], None]:
        return lambda data: self.heard.append(Heard(namespace, "connect_error", data))

    def call(self, name: str, data: Any, namespace: str = DEFAULT) -> Any:
        """Emit an event; its acknowledgement."""
        return self.client.call(name, data, namespace=namespace, timeout=ANSWER_SECONDS)

    def names(self, namespace: str) -> list[str]:
        """What was heard in a namespace."""
        return [each.name for each in list(self.heard) if each.namespace == namespace]

    def told(self, job_id: UUID) -> list[str]:
        """What the owner of a job heard of it, but for its statuses, by the numbers."""
        # The client hands each message to a thread of its own, and they overtake one another.
        own = {
            int(each.data["eventId"].partition("-")[2]): each.name
            for each in list(self.heard)
            if each.namespace == DEFAULT and each.data.get("jobId") == str(job_id) and "eventId" in each.data
        }
        return [own[number] for number in sorted(own) if own[number] != "job:status"]


@pytest.fixture(scope="module")
def url(app: Flask) -> Iterator[str]:
    """The address of the application, served over real connections."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(ANSWER_SECONDS)
    server.server_close()


@pytest.fixture(scope="module")
def listen(url: str) -> Iterator[Callable[..., Listener]]:
    """Makes clients that are disconnected after the tests: `listen(token=…)`."""
    listeners: list[Listener] = []

    def connect(**auth: str) -> Listener:
        listeners.append(Listener(url, auth))
        return listeners[-1]

    yield connect
    # All at once: each waits some seconds for a farewell that the server does not send.
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda listener: listener.client.shutdown(), listeners))


@pytest.fixture
def document(client: FlaskClient) -> Document:
    """The document as it is served to anybody."""
    answer = client.get("/api/asyncapi.json")
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    found: Document = answer.get_json()
    return found


def recognized(document: Document, heard: list[Heard]) -> dict[str, set[str]]:
    """The keys of all the messages that were heard, by namespace; fails at the first one that is not as documented."""
    found: dict[str, set[str]] = {namespace: set() for namespace in NAMESPACES}
    for each in heard:
        found[each.namespace].add(recognize(document, *each))
    return found


def followed(document: Document, channel: str) -> set[str]:
    """The messages of a channel that Carillon sends."""
    name = f"tell{channel[0].upper()}{channel[1:]}"
    return {reference["$ref"].rpartition("/")[2] for reference in document["operations"][name]["messages"]}


# The document itself


def references(node: Any) -> Iterator[str]:
    """All that a part of the document refers to."""
    if isinstance(node, dict):
        yield from ([node["$ref"]] if isinstance(node.get("$ref"), str) else [])
        node = list(node.values())
    if isinstance(node, list):
        for each in node:
            yield from references(each)


def test_every_reference_leads_somewhere(document: Document) -> None:
    for reference in set(references(document)):
        node: Any = document
        for step in reference.removeprefix("#/").split("/"):
            assert step in node, reference
            node = node[step]


def test_its_schemas_are_schemas_and_its_examples_fit_them(document: Document) -> None:
    for schema in document["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)
    for key, message in document["components"]["messages"].items():
        assert message["examples"], key
        for example in message["examples"]:
            assert problems(document, key, example["payload"]) == []


def test_it_names_the_host_that_was_asked(client: FlaskClient) -> None:
    asked = client.get("/api/asyncapi.json", base_url="https://carillon.example:8443").get_json()
    servers = {name: (each["protocol"], each["host"]) for name, each in asked["servers"].items()}
    assert servers == {
        "sockets": ("wss", "carillon.example:8443"),
        "streams": ("https", "carillon.example:8443"),
    }


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_what_is_told_without_a_schema_is_noticed(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def speak(_: vocabulary.Entry) -> Message:
        return Message("job:exploded", {})

    channels()
    monkeypatch.setitem(vocabulary.TABLE[namespace], "JobFailed", (speak,))
    with pytest.raises(KeyError, match="job:exploded"):
        channels()


def test_a_domain_event_without_an_example_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vocabulary.TABLE[DEFAULT], "JobExploded", vocabulary.TABLE[DEFAULT]["JobFailed"])
    with pytest.raises(KeyError, match="JobExploded"):
        channels()


def shown(guide: str) -> Iterator[Heard]:
    """The examples of the guide, by the namespaces they stand under."""
    namespace = ""
    for line in guide.splitlines():
        if heading := re.fullmatch(r"### The namespace `(.+)`", line):
            namespace = heading[1]
        elif namespace and (row := re.fullmatch(r"\| `(\S+)` \| `(\{.*\})` \|", line)):
            yield Heard(namespace, row[1], json.loads(row[2]))


def test_the_guide_shows_every_event_as_it_is(document: Document) -> None:
    found = recognized(document, list(shown(GUIDE.read_text())))
    rooms = {"jobRoomProgress", "jobRoomCompleted", "jobRoomFailed"}
    assert found[DEFAULT] == followed(document, "default") | rooms
    # What is in all namespaces is shown once.
    assert found[QUEUE] | found[DEFAULT] >= followed(document, "queue")
    assert found[NOTIFICATIONS] | found[DEFAULT] >= followed(document, "notifications")


# What is really said


def submit(user: Account, **given: Any) -> UUID:
    """A job of a user; its id."""
    submission = Submission(**{"type": "demo-steps", "payload": {"steps": 1}, **given})
    row = submit_job(submission, organization_id=user.organization_id, user_id=user.id).row
    return UUID(str(row["id"]))


def progress(job_id: UUID, attempt: int = 1, **more: Any) -> None:
    """An attempt begins and tells how far it has come."""
    row = start(job_id, attempt)
    assert row
    publish(JobProgressed(row, {"current": 1, "total": 8, "percentage": 12.5, **more}))


def fail(job_id: UUID, attempt: int, *, retryable: bool) -> None:
    """An attempt fails."""
    error = {"code": "disk_full", "message": "The disk is full.", "retryable": retryable}
    assert lifecycle.fail_job(job_id, attempt, error, retry_in=0)


def complete(user: Account, result: Any, **given: Any) -> UUID:
    """A job that ran and completed; its id."""
    job_id = submit(user, **given)
    progress(job_id, message="Reading", detail="page 1", etaSeconds=3.5)
    assert lifecycle.complete_job(job_id, 1, result, {"current": 8, "total": 8, "percentage": 100})
    return job_id


def everything_happens(client: FlaskClient, user: Account, listener: Listener) -> UUID:
    """Each thing that can happen to a job and in an inbox; the id of a job that was retried, failed and cancelled."""
    troubled = submit(user, name="Export", retry_limit=1)
    assert listener.call("subscribe:job", str(troubled))["ok"]
    progress(troubled)
    fail(troubled, 1, retryable=True)
    assert lifecycle.release_due() >= 1
    progress(troubled, 2)
    fail(troubled, 2, retryable=False)
    retry_job(troubled)
    answer = client.delete(f"/api/jobs/{troubled}", json={"reason": "not needed"}, headers=user.headers)
    assert answer.status_code == 200
    parent = submit(user)
    submit(user, depends_on=[Dependency(job_id=parent)], delay=3600)
    start(parent)
    lifecycle.complete_job(parent, 1, None)
    first, second, *_ = client.get("/api/notifications", headers=user.headers).get_json()["data"]
    for method, path in (
        ("PATCH", f"{first['id']}/read"),
        ("PATCH", f"{first['id']}/unread"),
        ("PATCH", "read-all"),
        ("PATCH", f"{first['id']}/archive"),
        ("DELETE", second["id"]),
    ):
        assert client.open(f"/api/notifications/{path}", method=method, headers=user.headers).status_code == 200
    return troubled


@pytest.mark.usefixtures("in_app")
def test_everything_that_sockets_hear_is_documented_and_the_other_way_round(
    document: Document,
    client: FlaskClient,
    make_user: MakeUser,
    listen: Callable[..., Listener],
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Who runs the installation hears most.
    operator = make_user(roles=("operator",), organization=default_organization_id())
    listener = listen(token=operator.token, lastEventId="1-1")
    until(lambda: "unread-count" in listener.names(NOTIFICATIONS), "the welcome")
    troubled = everything_happens(client, operator, listener)
    subscribed = submit(operator)
    acknowledged = listener.call("subscribe:job", {"jobId": str(subscribed)})
    assert problems(document, "subscribeJobAcknowledged", acknowledged) == []
    progress(subscribed)
    lifecycle.complete_job(subscribed, 1, {"steps": 1})
    statistics.measure()
    # Every token is about to run out.
    monkeypatch.setattr(sessions, "EXPIRY_WARNING_SECONDS", 10 * 86_400)
    refused = listen(token="forged")
    ends = f"job:{subscribed}:completed"
    until(lambda: {ends, "queue:stats", "auth:expiring"} <= set(listener.names(DEFAULT)), "the last of it")
    until(lambda: all("auth:expiring" in listener.names(each) for each in NAMESPACES), "each asks for a new token")
    until(lambda: "notification:deleted" in listener.names(NOTIFICATIONS), "what was deleted")

    heard = recognized(document, [*listener.heard, *refused.heard])
    assert listener.told(troubled) == [
        "job:created",
        "job:started",
        "job:progress",
        "job:retrying",
        "job:started",
        "job:progress",
        "job:failed",
        "job:cancelled",
    ]
    rooms = {"jobRoomProgress", "jobRoomCompleted", "jobRoomFailed"}
    assert heard[DEFAULT] == followed(document, "default") | rooms
    assert heard[QUEUE] == followed(document, "queue")
    assert heard[NOTIFICATIONS] == followed(document, "notifications")


@pytest.mark.usefixtures("in_app")
def test_a_result_that_is_too_large_or_nobodys_business_is_left_out_as_documented(
    document: Document, make_user: MakeUser, listen: Callable[..., Listener], until: Until
) -> None:
    user = make_user()
    listener = listen(token=user.token)
    large = complete(user, {"text": "x" * MAXIMUM_RESULT_BYTES})
    hidden = complete(user, {"echo": "a secret"}, type=confidential.NAME, payload={"secret": "a secret"})

    def completions() -> list[Heard]:
        told = [each for each in list(listener.heard) if each.name in {"job:completed", "queue-update"}]
        return [each for each in told if each.data.get("eventType", "job-completed") == "job-completed"]

    until(lambda: len(completions()) == 4, "each end in both namespaces")
    recognized(document, listener.heard)
    for each in completions():
        is_large = each.data["jobId"] == str(large)
        assert is_large or each.data["jobId"] == str(hidden)
        assert (each.data["result"], each.data.get("resultTruncated", False)) == (None, is_large)


@pytest.mark.usefixtures("in_app")
def test_acknowledgements_are_as_documented(
    document: Document, make_user: MakeUser, listen: Callable[..., Listener]
) -> None:
    user = make_user()
    job_id = str(submit(user))
    listener = listen()
    acknowledged: list[tuple[str, Any, bool]] = [
        ("subscribe:job", job_id, False),
        ("authenticate", None, False),
        ("authenticate", {}, False),
        ("authenticate", {"token": user.token}, True),
        ("authenticate", {"token": user.token}, True),
        ("authenticate", {"token": make_user().token}, False),
        ("subscribe:job", job_id, True),
        ("subscribe:job", {"jobId": user.id}, False),
        ("unsubscribe:job", {"jobId": job_id}, True),
        ("unsubscribe:job", "no id", False),
    ]
    for name, data, is_done in acknowledged:
        answer = listener.call(name, {"jobId": str(user.id)} if data == {"jobId": user.id} else data)
        key = {"authenticate": "authenticate", "subscribe:job": "subscribeJob", "unsubscribe:job": "unsubscribeJob"}[
            name
        ]
        assert problems(document, f"{key}Acknowledged", answer) == []
        assert answer["ok"] is is_done, (name, data)


# Streams


def read_stream(url: str, path: str, user: Account, since: str) -> list[tuple[str, Any, str | None]]:
    """The events of a stream up to `resumed`: name, data and number of each."""
    found: list[tuple[str, Any, str | None]] = []
    headers = {**user.headers, "Last-Event-ID": since}
    with requests.get(url + path, headers=headers, stream=True, timeout=ANSWER_SECONDS) as answer:
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/event-stream")
        fields: dict[str, str] = {}
        for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
            name, _, value = line.partition(": ")
            if name:
                fields[name] = value
                continue
            if "event" in fields:
                found.append((fields["event"], json.loads(fields["data"]), fields.get("id")))
                if fields["event"] == "resumed":
                    break
            fields = {}
    return found


@pytest.mark.usefixtures("in_app")
def test_everything_that_streams_tell_is_documented_and_the_other_way_round(
    document: Document,
    url: str,
    client: FlaskClient,
    make_user: MakeUser,
    listen: Callable[..., Listener],
    until: Until,
) -> None:
    user = make_user()
    listener = listen(token=user.token)
    until(lambda: "unread-count" in listener.names(NOTIFICATIONS), "the welcome")
    troubled = everything_happens(client, user, listener)
    done = complete(user, {"pages": 8})
    until(lambda: "job:completed" in listener.told(done), "the end")
    number = next(each.data["eventId"] for each in list(listener.heard) if "eventId" in each.data)
    begins = f"{number.partition('-')[0]}-0"
    found: dict[str, set[str]] = {}
    for channel, path in (
        ("events", "/api/events"),
        ("inboxStream", "/api/notifications/stream"),
        ("jobStream", f"/api/jobs/{troubled}/stream"),
        ("jobStream", f"/api/jobs/{done}/stream"),
    ):
        told = read_stream(url, path, user, begins)
        assert told[-1][:2] == ("resumed", {"recovered": True, "count": sum(number is not None for *_, number in told)})
        found.setdefault(channel, set()).update(recognize(document, path, name, data) for name, data, _ in told)
    assert found == {channel: followed(document, channel) for channel in found}
