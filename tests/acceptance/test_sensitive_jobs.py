"""The secret of a sensitive job, looked for wherever a platform keeps or tells something; its open twin is found."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import requests

from devstack.programs import carillon
from tests.acceptance.platform import Person, Platform
from tests.acceptance.receiver import Receiver
from tests.acceptance.waiting import until
from tests.factories.confidential import NAME, OPEN_TWIN, WAYS

pytestmark = pytest.mark.xdist_group("platform")

SECRET = "CARD-4111-7d1f3c55a9e0"
OPEN = "CARD-5222-0e9a55c3f1d7"
FINAL = ("completed", "failed", "cancelled")
END = "the end of the monitor"


def forms_of(text: str) -> list[bytes]:
    """The text, and what is left of it in base64 wherever it begins."""
    encoded = [base64.b64encode(b"x" * shift + text.encode())[shift + 2 : -4] for shift in range(3)]
    return [text.encode(), *encoded]


@contextmanager
def monitored(url: str) -> Iterator[list[str]]:
    """Every command that Redis is sent inside: what passes through it, also what it does not keep."""
    commands: list[str] = []
    client = redis.Redis.from_url(url, socket_timeout=None)
    with client.monitor() as monitor:

        def listen() -> None:
            for command in monitor.listen():
                commands.append(command["command"])
                if END in command["command"]:
                    return

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        yield commands
        client.echo(END)
        listener.join(10)
    client.close()


def run_all(person: Person, job_type: str, secret: str) -> dict[str, str]:
    """A job for each way in which one can end, all ended; their ids by the way."""
    body = [{"type": job_type, "payload": {"secret": secret, "how": how}, "options": {"retryLimit": 1}} for how in WAYS]
    jobs = person.ask("POST", "/api/jobs/batch", {"jobs": body}, 202)["data"]
    by_way = dict(zip(WAYS, (job["id"] for job in jobs), strict=True))
    for way in ("wait", "break"):
        person.await_status(by_way[way], "active", seconds=60)
        person.ask("DELETE", f"/api/jobs/{by_way[way]}", {"reason": "enough"})
    # It asks for an hour until its second attempt.
    person.await_status(by_way["later"], "retrying", seconds=60)
    person.ask("DELETE", f"/api/jobs/{by_way['later']}")
    for job_id in by_way.values():
        person.await_status(job_id, *FINAL, seconds=60)
    return by_way


def in_redis(url: str) -> str:
    """Everything that Redis keeps."""
    client = redis.Redis.from_url(url)
    readers = {
        b"string": client.get,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"stream": client.xrange,
        # Its time ran out since it was found.
        b"none": lambda _: None,
    }
    return repr([(key, readers[client.type(key)](key)) for key in client.scan_iter()])


def in_database(platform: Platform) -> str:
    """The text of every row of every table."""
    records = platform.records
    names = records.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    tables = (records.rows(f'SELECT t::text AS row FROM "{each["tablename"]}" AS t') for each in names)
    return "\n".join(row["row"] for rows in tables for row in rows)


def in_flower(platform: Platform, job_ids: list[str]) -> str:
    """What Flower's API and its pages tell of the jobs."""
    url = platform.stack.settings.flower_url
    paths = [f"/task/{job_id}.1" for job_id in job_ids] + ["/tasks", "/api/tasks?limit=1000"]
    return "\n".join(requests.get(url + path, timeout=20).text for path in paths)


def files_with(folder: Path, forms: list[bytes]) -> list[str]:
    """The files below a folder that hold one of these, the database's own and the logs among them."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and any(form in content for content in [path.read_bytes()] for form in forms)
    ]


def test_a_secret_is_nowhere_but_with_its_owner(plugged: Platform, receiver: Receiver) -> None:
    stack = plugged.stack
    worker_log = stack.process("worker").log
    until(lambda: "Events of group {task} enabled" in worker_log.read_text(), "Flower's wish for the worker's events")
    person, operator = plugged.newcomer(), plugged.operator()
    person.add_webhook(receiver.url, "all")
    with monitored(stack.redis_url) as commands, person.socket() as socket:
        hidden = run_all(person, NAME, SECRET)
        during = in_redis(stack.redis_url)
        shown = run_all(person, OPEN_TWIN, OPEN)
        last = person.submit()
        receiver.first(last, "job.completed")
        socket.journal.first("job:completed", last)
        until(lambda: not undelivered(plugged), "the last delivery")
    job_ids = [*hidden.values(), *shown.values()]

    places: Mapping[str, str] = {
        "Redis, passing through": "\n".join(commands),
        "Redis": during + in_redis(stack.redis_url),
        "the database": in_database(plugged),
        "Flower": in_flower(plugged, job_ids),
        "the socket": repr([(event.name, event.data) for event in socket.journal.heard]),
        "the webhooks": repr([post.body for post in receiver.posts()]),
        "the logs": "\n".join(path.read_text(errors="replace") for path in stack.log_folder.iterdir()),
        "what an operator reads": read_all(operator, job_ids),
    }
    assert found_in(places, OPEN) == set(places), "where nobody hides it, the search finds it"
    assert found_in(places, SECRET) == set()
    folder = stack.settings.var_folder
    assert any(name.startswith("postgres/") for name in files_with(folder, forms_of(OPEN)))
    assert files_with(folder, forms_of(SECRET)) == []

    assert person.job(hidden["complete"])["result"]["echo"] == SECRET
    logs = person.get(f"/api/jobs/{hidden['permanent']}/logs")["data"]
    assert [line["message"] for line in logs] == [f"line {number}: {SECRET}" for number in range(3)]
    assert ends(person, hidden) == ends(person, shown), "sealed or not, a job ends in the same way"


def undelivered(platform: Platform) -> list[dict[str, Any]]:
    """The deliveries that have not come to an end."""
    return platform.records.rows("SELECT id FROM webhook_deliveries WHERE status IN ('pending', 'delivering')")


def found_in(places: Mapping[str, str], text: str) -> set[str]:
    """The places where a text is, or what base64 makes of it."""
    forms = [form.decode() for form in forms_of(text)]
    return {name for name, content in places.items() if any(form in content for form in forms)}


def read_all(operator: Person, job_ids: list[str]) -> str:
    """Whatever the API tells an operator about jobs that are not his."""
    paths = [f"/api/jobs/{job_id}{below}" for job_id in job_ids for below in ("", "/executions", "/logs", "/artifacts")]
    return "\n".join(operator.send("GET", path).text for path in [*paths, "/api/jobs?limit=100"])


def ends(person: Person, jobs: Mapping[str, str]) -> dict[str, tuple[str, str | None, int]]:
    """Status, error code and attempts of each job, by the way in which it was to end."""
    read = {way: person.job(job_id) for way, job_id in jobs.items()}
    return {way: (job["status"], (job["error"] or {}).get("code"), job["attempt"]) for way, job in read.items()}


def test_keys_are_rotated_by_a_command(plugged: Platform) -> None:
    person = plugged.newcomer()
    job_id = person.submit(NAME, {"secret": SECRET})
    person.await_status(job_id, "completed")
    said = plugged.stack.run(carillon("rotate-keys"))
    assert "jobs.payload: 0 encrypted anew\n" in said, "with one key there is nothing to do"
    assert person.job(job_id)["result"]["echo"] == SECRET
