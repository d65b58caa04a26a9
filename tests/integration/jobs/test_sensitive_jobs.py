"""Sensitive jobs: what they take, give, log and fail with is sealed, and opened for nobody but their owner."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from cryptography.fernet import Fernet
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import inspect, select, text, update

from service.connections.actions import create_connection
from service.crypto import decrypt
from service.database import Base, db, transaction
from service.ids import new_id
from service.jobs.models import Job, JobLog
from service.jobs.registry import find_job_type
from service.jobs.sealing import KEY, Unreadable, seal, unseal
from service.jobs.submission import Submission, submit_job
from service.operations.key_rotation import PLACES, rotate_keys
from service.push.keys import public_key
from service.queue import celery_app, task_id_of
from service.redis_client import redis
from service.webhooks.actions import create_webhook
from tasks.base import register_job_tasks
from tasks.signals import connect_signals
from tests.conftest import Account, MakeUser
from tests.factories import confidential
from tests.factories.identities import identity_of
from tests.factories.jobs import send_held

pytestmark = pytest.mark.usefixtures("in_app", "worker")

Secret = str


@pytest.fixture(scope="module")
def worker(app: Flask) -> None:
    """What a worker process loads."""
    with app.app_context():
        if confidential.NAME not in celery_app.tasks:
            register_job_tasks(celery_app)
        connect_signals()


@pytest.fixture
def secret() -> Secret:
    """What must not be found anywhere."""
    return f"4111-{new_id().hex[-12:]}"


@pytest.fixture
def owner(make_user: MakeUser) -> Account:
    """Whose jobs they are."""
    return make_user()


@pytest.fixture
def operator(owner: Account, make_user: MakeUser) -> Account:
    """An operator of the owner's organization."""
    return make_user(roles=("user", "operator"), organization=owner.organization_id)


def submit(user: Account, secret: Secret, how: str = "complete", **options: Any) -> str:
    """A sensitive job; its id."""
    submission = Submission(type=confidential.NAME, payload={"secret": secret, "how": how}, **options)
    row = submit_job(submission, organization_id=user.organization_id, user_id=user.id).row
    return str(row["id"])


def run(job_id: str, attempt: int = 1) -> Any:
    """Run an attempt as a worker does, from the claim to the end; what Celery knows of it."""
    send_held()
    job_type = db.session.scalars(select(Job.type).where(Job.id == UUID(job_id))).one()
    db.session.rollback()
    outcome = celery_app.tasks[job_type].apply([job_id], task_id=task_id_of(job_id, attempt))
    db.session.rollback()
    return outcome


def job(job_id: str) -> Job:
    """The job as it stands in the database now."""
    db.session.rollback()
    return db.session.get_one(Job, UUID(job_id), populate_existing=True)


def everything() -> str:
    """The text of every row of every table, and of everything in Redis."""
    db.session.rollback()
    names = inspect(db.engine).get_table_names()
    rows = [row for name in names for row in db.session.scalars(text(f'SELECT t::text FROM "{name}" AS t'))]
    return "\n".join([*rows, *redis_texts()])


def redis_texts() -> Iterator[str]:
    """Every value in Redis, whatever its kind."""
    client = redis()
    readers: dict[str, Callable[[str], Any]] = {
        "string": client.get,
        "list": lambda key: client.lrange(key, 0, -1),
        "hash": client.hgetall,
        "set": client.smembers,
        "zset": lambda key: client.zrange(key, 0, -1),
        "stream": client.xrange,
        # Its time ran out since it was found.
        "none": lambda _: None,
    }
    for key in client.scan_iter():
        kind = client.type(key)
        yield repr((key, readers[kind if isinstance(kind, str) else kind.decode()](key)))


def read(client: FlaskClient, user: Account, path: str) -> Any:
    """The JSON of an answer."""
    answer = client.get(path, headers=user.headers)
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def test_payload_and_result_are_sealed_wherever_they_are_kept(
    client: FlaskClient, owner: Account, secret: Secret
) -> None:
    job_id = submit(owner, secret)
    assert set(job(job_id).payload) == {KEY}
    outcome = run(job_id)
    assert set(outcome.result) == {KEY}, "what Celery keeps and tells"
    assert job(job_id).status == "completed"
    assert set(job(job_id).result) == {KEY}
    assert secret not in everything()
    assert read(client, owner, f"/api/jobs/{job_id}")["result"] == {"echo": secret, "parents": {}}


def test_only_the_owner_reads_the_result_and_the_log(
    client: FlaskClient, owner: Account, operator: Account, make_user: MakeUser, secret: Secret
) -> None:
    job_id = submit(owner, secret)
    run(job_id)
    mine = read(client, owner, f"/api/jobs/{job_id}")
    theirs = read(client, operator, f"/api/jobs/{job_id}")
    assert (mine["sensitive"], mine["result"]["echo"]) == (True, secret)
    assert (theirs["sensitive"], theirs["result"], theirs["status"]) == (True, None, "completed")
    for reader in (owner, operator):
        listed = read(client, reader, "/api/jobs")["data"]
        assert [(each["id"], each["result"]) for each in listed] == [(job_id, None)], "a list opens nothing"
    lines = read(client, owner, f"/api/jobs/{job_id}/logs")["data"]
    assert [line["message"] for line in lines] == [f"line {number}: {secret}" for number in range(3)]
    lines = read(client, operator, f"/api/jobs/{job_id}/logs")["data"]
    assert [(line["level"], line["message"]) for line in lines] == [("info", None)] * 3
    assert client.get(f"/api/jobs/{job_id}", headers=make_user().headers).status_code == 404


def test_notifications_webhooks_and_events_tell_no_result(owner: Account, secret: Secret, client: FlaskClient) -> None:
    create_webhook(owner.organization_id, owner.id, {"url": "http://127.0.0.1:9/", "event_type": "all"})
    job_id = submit(owner, secret)
    run(job_id)
    payload = db.session.scalars(
        text("SELECT payload FROM webhook_deliveries WHERE job_id = :id AND event_type = 'job.completed'"),
        {"id": job_id},
    ).one()
    assert payload["data"]["result"] is None
    told = next(entry for entry in redis_texts() if job_id in entry and "JobCompleted" in entry)
    assert "$sealed" not in told
    assert read(client, owner, "/api/notifications")["data"][0]["type"] == "job_completed"


FAILURES = [
    ("permanent", "failed", "card_refused"),
    ("error", "retrying", "runtime_error"),
    ("chained", "retrying", "value_error"),
    ("unstorable", "retrying", "value_error"),
    ("later", "retrying", "retry_later"),
    ("no-json", "failed", "invalid_result"),
]


@pytest.mark.parametrize(("how", "status", "code"), FAILURES)
def test_a_failure_tells_its_kind_and_its_place_but_no_data(
    client: FlaskClient,
    owner: Account,
    operator: Account,
    secret: Secret,
    caplog: pytest.LogCaptureFixture,
    how: str,
    status: str,
    code: str,
) -> None:
    job_id = submit(owner, secret, how)
    with caplog.at_level(logging.DEBUG):
        outcome = run(job_id)
    assert (job(job_id).status, job(job_id).error["code"]) == (status, code)
    assert job(job_id).error["retryable"] == (status == "retrying")
    assert secret not in caplog.text + repr(outcome.result) + str(outcome.traceback)
    assert secret not in everything()
    [attempt] = read(client, operator, f"/api/jobs/{job_id}/executions")["data"]
    if how != "no-json":
        assert "confidential.py" in attempt["traceback"]
        assert "in _fail" in attempt["traceback"]
    assert "raise" not in attempt["traceback"], "no lines of code, which may hold constants"


def test_what_a_failed_job_leaves_behind_holds_no_exception(owner: Account, secret: Secret) -> None:
    outcome = run(submit(owner, secret, "chained"))
    chain = [outcome.result]
    while (past := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(past)
    assert len(chain) == 1


def test_a_sensitive_job_can_say_when_it_wants_to_be_tried_again(owner: Account, secret: Secret) -> None:
    job_id = submit(owner, secret, "later")
    run(job_id)
    waits = (job(job_id).next_attempt_at - db.session.scalars(text("SELECT now()")).one()).total_seconds()
    assert 3500 < waits <= 3600


def test_a_replaced_payload_is_sealed_too(client: FlaskClient, owner: Account, secret: Secret) -> None:
    def post(word: str) -> Any:
        options = {"delay": 3600, "singletonKey": "card", "unique": {"mode": "replace"}}
        body = {"type": confidential.NAME, "payload": {"secret": word}, "options": options}
        return client.post("/api/jobs", json=body, headers=owner.headers)

    first, second = post("first"), post(secret)
    assert (first.status_code, second.status_code) == (202, 200)
    job_id = second.get_json()["id"]
    assert job_id == first.get_json()["id"]
    assert secret not in everything()
    with transaction() as session:
        session.execute(update(Job).where(Job.id == UUID(job_id)).values(status="queued", next_attempt_at=None))
    run(job_id)
    assert read(client, owner, f"/api/jobs/{job_id}")["result"]["echo"] == secret


def test_an_idempotency_key_works_without_a_digest_that_one_could_try_out(
    client: FlaskClient, owner: Account, secret: Secret
) -> None:
    def post(word: str) -> Any:
        body = {"type": confidential.NAME, "payload": {"secret": word}}
        return client.post("/api/jobs", json=body, headers={**owner.headers, "Idempotency-Key": "once"})

    first = post(secret)
    assert post(secret).get_json()["id"] == first.get_json()["id"]
    assert post("other").status_code == 409


def test_a_payload_is_checked_before_it_is_sealed(client: FlaskClient, owner: Account) -> None:
    body = {"type": confidential.NAME, "payload": {"how": "complete"}}
    answer = client.post("/api/jobs", json=body, headers=owner.headers)
    assert (answer.status_code, list(answer.get_json()["errors"])) == (422, ["payload.secret"])


def test_a_dependent_job_reads_the_result_only_where_it_is_sensitive_too(
    client: FlaskClient, owner: Account, secret: Secret
) -> None:
    from service.jobs.dependencies import Dependency, parents_of

    parent = submit(owner, secret)
    depends_on = [Dependency(job_id=UUID(parent))]
    child = submit(owner, "mine", depends_on=depends_on)
    plain = Submission(type="demo-steps", payload={"steps": 1}, depends_on=depends_on)
    open_child = submit_job(plain, organization_id=owner.organization_id, user_id=owner.id).row["id"]
    run(parent)
    assert parents_of(UUID(str(open_child)))[parent].result is None
    run(child)
    result = read(client, owner, f"/api/jobs/{child}")["result"]
    assert result == {"echo": "mine", "parents": {parent: {"echo": secret, "parents": {}}}}


def test_the_list_of_types_says_which_are_sensitive(client: FlaskClient, owner: Account) -> None:
    listed = {kind["name"]: kind["sensitive"] for kind in read(client, owner, "/api/job-types")["data"]}
    assert (listed[confidential.NAME], listed["demo-steps"]) == (True, False)


def test_an_envelope_in_a_plain_job_is_data(client: FlaskClient, owner: Account, make_user: MakeUser) -> None:
    """Whoever has seen a seal, in a backup of the database for one, cannot have it opened by a job of his."""
    other = make_user()
    envelope = seal({"secret": "theirs", "how": "complete"}, other.id)
    body = {"type": confidential.NAME, "payload": envelope}
    refused = client.post("/api/jobs", json=body, headers=owner.headers)
    assert refused.status_code == 422, "fields of the payload have other names"
    job_id = submit(owner, json.dumps(envelope))
    run(job_id)
    assert read(client, owner, f"/api/jobs/{job_id}")["result"]["echo"] == json.dumps(envelope)
    plain = Submission(type="demo-steps", payload={"steps": 1})
    plain_id = str(submit_job(plain, organization_id=owner.organization_id, user_id=owner.id).row["id"])
    with transaction() as session:
        session.execute(update(Job).where(Job.id == UUID(plain_id)).values(result=envelope))
    assert read(client, owner, f"/api/jobs/{plain_id}")["result"] == envelope


def test_a_seal_of_somebody_else_does_not_open(client: FlaskClient, owner: Account, make_user: MakeUser) -> None:
    other = make_user()
    job_id = submit(owner, "mine")
    stolen = seal({"secret": "theirs"}, other.id)
    with pytest.raises(Unreadable):
        unseal(stolen, owner.id)
    with transaction() as session:
        session.execute(update(Job).where(Job.id == UUID(job_id)).values(payload=stolen, result=stolen))
    assert read(client, owner, f"/api/jobs/{job_id}")["result"] is None
    run(job_id)
    assert (job(job_id).status, job(job_id).error["code"]) == ("failed", "payload_unreadable")


def test_a_type_that_becomes_sensitive_leaves_its_older_jobs_as_they_were(
    client: FlaskClient, owner: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.jobs import registry

    kind = find_job_type("demo-steps")
    assert kind is not None
    submission = Submission(type="demo-steps", payload={"steps": 1})
    older = str(submit_job(submission, organization_id=owner.organization_id, user_id=owner.id).row["id"])
    monkeypatch.setitem(registry._types, "demo-steps", replace(kind, sensitive=True))
    newer = str(submit_job(submission, organization_id=owner.organization_id, user_id=owner.id).row["id"])
    for job_id in (older, newer):
        run(job_id)
        assert read(client, owner, f"/api/jobs/{job_id}")["result"] == {"steps": 1, "attempt": 1}
    assert (job(older).sensitive, job(newer).sensitive) == (False, True)
    assert set(job(newer).result) == {KEY}


@pytest.fixture
def use_keys(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has the application use these encryption keys: the first encrypts, all decrypt."""
    settings = app.extensions["carillon_settings"]

    def use(*keys: str) -> None:
        monkeypatch.setitem(app.extensions, "carillon_settings", replace(settings, encryption_keys=keys))

    return use


def test_after_a_rotation_the_older_key_can_be_retired(
    app: Flask, client: FlaskClient, owner: Account, secret: Secret, use_keys: Callable[..., None]
) -> None:
    [old] = app.extensions["carillon_settings"].encryption_keys
    new = Fernet.generate_key().decode()
    job_id = submit(owner, secret)
    run(job_id)
    connection = create_connection(identity_of(owner), name="shop", url="postgresql://a:b@127.0.0.1/shop")
    webhook, webhook_secret = create_webhook(
        owner.organization_id, owner.id, {"url": "http://127.0.0.1:9/", "event_type": "all"}
    )
    changed_at = connection.updated_at
    push_key = public_key()
    use_keys(new, old)
    done = {each.place: each for each in rotate_keys()}
    assert {name for name, each in done.items() if each.rotated} >= {
        "connections.url",
        "webhooks.secret",
        "platform_keys.value",
        "jobs.payload",
        "jobs.result",
        "job_logs.message",
    }
    assert {each.rotated for each in rotate_keys()} == {0}, "a second time there is nothing to do"
    use_keys(new)
    db.session.rollback()
    assert decrypt(connection.url) == "postgresql://a:b@127.0.0.1/shop"
    assert decrypt(webhook.secret) == webhook_secret
    assert public_key() == push_key
    assert connection.updated_at == changed_at, "nobody has changed it"
    assert read(client, owner, f"/api/jobs/{job_id}")["result"]["echo"] == secret
    assert read(client, owner, f"/api/jobs/{job_id}/logs")["data"][0]["message"] == f"line 0: {secret}"
    use_keys(old, new)
    assert sum(each.rotated for each in rotate_keys()) >= 5, "the other tests go on with the key they know"


def unreadable() -> Counter[str]:
    """How many values no key fits, by their place."""
    return Counter({each.place: each.unreadable for each in rotate_keys()})


def test_what_no_key_opens_is_counted_and_shown_as_nothing(
    app: Flask, client: FlaskClient, owner: Account, secret: Secret, use_keys: Callable[..., None]
) -> None:
    [old] = app.extensions["carillon_settings"].encryption_keys
    # Other tests of this server may have left what no key opens.
    before = unreadable()
    use_keys(Fernet.generate_key().decode())
    job_id = submit(owner, secret)
    run(job_id)
    use_keys(old)
    lost = unreadable() - before
    assert (lost["jobs.payload"], lost["jobs.result"], lost["job_logs.message"]) == (1, 1, 3)
    shown = read(client, owner, f"/api/jobs/{job_id}")
    assert (shown["status"], shown["result"]) == ("completed", None)
    with transaction() as session:
        session.execute(text("DELETE FROM job_logs WHERE job_id = :id"), {"id": job_id})
        session.execute(text("UPDATE jobs SET sensitive = false WHERE id = :id"), {"id": job_id})


def test_everything_that_is_encrypted_is_rotated() -> None:
    hashes = {"refresh_tokens.token_hash", "idempotency_keys.body_hash"}
    places = {f"{place.column.class_.__table__.name}.{place.column.key}" for place in PLACES}
    binary = {
        f"{table.name}.{column.name}"
        for table in Base.metadata.tables.values()
        for column in table.columns
        if column.type.python_type is bytes
    }
    assert binary - hashes <= places, "a binary column is a hash, or it is rotated"
    sensitive = {table.name for table in Base.metadata.tables.values() if "sensitive" in table.columns}
    assert {place.partition(".")[0] for place in places} >= sensitive
    assert JobLog.__table__.name in {place.partition(".")[0] for place in places}
