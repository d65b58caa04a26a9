"""`/api/jobs/{id}/artifacts` over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from service.artifacts.models import Artifact, UnlistedFile
from service.artifacts.schemas import ArtifactSchema
from service.artifacts.storage import CHUNK_BYTES
from service.audit.models import AuditEntry
from service.clock import utcnow
from service.database import db, transaction
from service.jobs.models import Job
from tests.conftest import Account, MakeUser
from tests.integration.artifacts.conftest import RunningJob

CONTENT = bytes(range(256)) * 4


@pytest.fixture
def artifact(job: RunningJob) -> Artifact:
    """A file of 1,024 bytes."""
    return job.leave("Bericht Übersicht.bin", CONTENT, content_type="text/html")


@pytest.fixture
def address(job: RunningJob, artifact: Artifact) -> str:
    """Where it is downloaded."""
    return f"{job.url}/{artifact.id}"


@pytest.fixture
def get(client: FlaskClient, job: RunningJob, address: str) -> Callable[..., Any]:
    """Asks for the file as its owner."""

    def ask(method: str = "GET", **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.open(address, method=method, headers={**job.owner.headers, **named})

    return ask


def expire(app: Flask, artifact: Artifact) -> None:
    with app.app_context(), transaction() as session:
        moment = utcnow() - timedelta(seconds=1)
        session.execute(update(Artifact).where(Artifact.id == artifact.id).values(expires_at=moment))


def test_the_files_of_a_job_are_listed(client: FlaskClient, job: RunningJob, artifact: Artifact, address: str) -> None:
    job.leave("second.txt", "text")
    first, second = client.get(job.url, headers=job.owner.headers).json["data"]
    assert set(first) == set(ArtifactSchema().fields), "the documented fields are those that are sent"
    assert {
        name: first[name] for name in ("id", "name", "attempt", "contentType", "size", "sha256", "downloadUrl")
    } == {
        "id": str(artifact.id),
        "name": "Bericht Übersicht.bin",
        "attempt": 1,
        "contentType": "text/html",
        "size": 1024,
        "sha256": artifact.sha256,
        "downloadUrl": address,
    }
    assert first["createdAt"] < first["expiresAt"]
    assert (second["name"], second["contentType"]) == ("second.txt", "text/plain; charset=utf-8")


def test_a_file_is_downloaded_to_be_saved_and_never_shown(get: Callable[..., Any], artifact: Artifact) -> None:
    answer = get()
    assert (answer.status_code, answer.data) == (200, CONTENT)
    wanted = {
        "Content-Type": "text/html",
        "Content-Length": "1024",
        "Accept-Ranges": "bytes",
        "ETag": f'"{artifact.sha256}"',
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": 'attachment; filename="Bericht Ubersicht.bin"; '
        "filename*=UTF-8''Bericht%20%C3%9Cbersicht.bin",
    }
    assert {name: answer.headers[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [("bytes=0-9", 0, 10), ("bytes=1000-", 1000, 1024), ("bytes=-24", 1000, 1024), ("bytes=1000-9999", 1000, 1024)],
)
def test_a_part_is_sent_where_one_is_asked_for(get: Callable[..., Any], header: str, start: int, end: int) -> None:
    answer = get(Range=header)
    assert (answer.status_code, answer.data) == (206, CONTENT[start:end])
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/1024"
    assert answer.headers["Content-Length"] == str(end - start)


def test_bytes_that_there_are_not_answer_416(get: Callable[..., Any]) -> None:
    answer = get(Range="bytes=1024-")
    assert (answer.status_code, answer.json["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["Content-Range"] == "bytes */1024"
    assert answer.json["requestId"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize("header", ["bytes=0-1,4-5", "bytes=x", "lines=1-2"])
def test_a_range_that_is_not_understood_is_ignored(get: Callable[..., Any], header: str) -> None:
    answer = get(Range=header)
    assert (answer.status_code, answer.data) == (200, CONTENT)


def test_a_download_is_only_resumed_of_the_same_file(get: Callable[..., Any], artifact: Artifact) -> None:
    assert get(Range="bytes=1-2", If_Range=f'"{artifact.sha256}"').status_code == 206
    for other in ('"another"', f'W/"{artifact.sha256}"', "Wed, 21 Oct 2015 07:28:00 GMT"):
        assert get(Range="bytes=1-2", If_Range=other).status_code == 200
    answer = get(If_None_Match=f'"x", "{artifact.sha256}"')
    assert (answer.status_code, answer.data) == (304, b"")
    assert get(If_None_Match='"another"').status_code == 200


def test_head_tells_what_get_would_send(get: Callable[..., Any]) -> None:
    answer = get("HEAD", Range="bytes=1-2")
    assert (answer.status_code, answer.data, answer.headers["Content-Length"]) == (200, b"", "1024")
    assert answer.headers["Accept-Ranges"] == "bytes"


def test_an_empty_file_is_a_file(client: FlaskClient, job: RunningJob) -> None:
    address = f"{job.url}/{job.leave('empty', b'').id}"
    answer = client.get(address, headers=job.owner.headers)
    assert (answer.status_code, answer.data, answer.headers["Content-Length"]) == (200, b"", "0")
    answer = client.get(address, headers={**job.owner.headers, "Range": "bytes=0-"})
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, "bytes */0")


def test_what_has_expired_is_no_longer_there(
    app: Flask, client: FlaskClient, job: RunningJob, artifact: Artifact, get: Callable[..., Any]
) -> None:
    expire(app, artifact)
    answer = get()
    assert (answer.status_code, answer.json["code"]) == (410, "artifact_expired")
    assert client.get(job.url, headers=job.owner.headers).json == {"data": []}


@pytest.mark.parametrize("damage", ["gone", "shorter", "a folder"])
def test_a_file_that_is_not_what_its_row_says_is_gone(
    job: RunningJob, artifact: Artifact, get: Callable[..., Any], damage: str
) -> None:
    path = job.folder / str(artifact.id)
    if damage == "shorter":
        path.write_bytes(CONTENT[:-1])
    else:
        path.unlink()
    if damage == "a folder":
        path.mkdir()
    for method in ("GET", "HEAD"):
        answer = get(method)
        assert answer.status_code == (503 if damage == "a folder" else 410)
    assert get().json["code"] == ("service_unavailable" if damage == "a folder" else "artifact_gone")


CALLS = [("GET", False), ("GET", True), ("HEAD", True), ("DELETE", True)]


@pytest.mark.parametrize(("method", "is_file"), CALLS)
def test_artifacts_are_their_owners(
    client: FlaskClient, make_user: MakeUser, job: RunningJob, address: str, method: str, is_file: bool
) -> None:
    where = address if is_file else job.url
    colleague = make_user(organization=job.owner.organization_id)
    operator = make_user(("operator",), organization=job.owner.organization_id)

    def status(who: Account) -> int:
        return client.open(where, method=method, headers=who.headers).status_code

    assert client.open(where, method=method).status_code == 401
    assert status(make_user(("admin",))) == 404
    assert status(colleague) == 403
    assert status(operator) == (403 if method == "DELETE" else 200)
    assert status(job.owner) == (204 if method == "DELETE" else 200)


def test_what_a_sensitive_job_left_is_told_to_nobody_but_its_owner(
    app: Flask, client: FlaskClient, make_user: MakeUser, job: RunningJob, address: str
) -> None:
    with app.app_context(), transaction() as session:
        session.execute(update(Job).where(Job.id == job.id).values(sensitive=True))
    operator = make_user(("operator",), organization=job.owner.organization_id)
    for where in (job.url, address):
        assert client.get(where, headers=operator.headers).status_code == 403
        assert client.get(where, headers=job.owner.headers).status_code == 200


def test_an_artifact_of_another_job_is_not_found(
    client: FlaskClient, run: Callable[..., RunningJob], job: RunningJob, artifact: Artifact
) -> None:
    other = run(job.owner)
    for where in (f"{other.url}/{artifact.id}", f"{job.url}/{uuid4()}"):
        for method in ("GET", "DELETE"):
            answer = client.open(where, method=method, headers=job.owner.headers)
            assert (answer.status_code, answer.json["code"]) == (404, "artifact_not_found")
    answer = client.get(f"/api/jobs/{uuid4()}/artifacts", headers=job.owner.headers)
    assert (answer.status_code, answer.json["code"]) == (404, "job_not_found")


def test_a_deleted_artifact_is_gone_with_its_file(
    app: Flask, client: FlaskClient, job: RunningJob, artifact: Artifact, address: str
) -> None:
    kept = job.leave("kept", b"1")
    assert client.delete(address, headers=job.owner.headers).status_code == 204
    assert client.delete(address, headers=job.owner.headers).json["code"] == "artifact_not_found"
    assert job.files() == [str(kept.id)]
    with app.app_context():
        assert db.session.scalars(select(UnlistedFile).where(UnlistedFile.job_id == job.id)).all() == []
        entry = db.session.scalars(select(AuditEntry).where(AuditEntry.target_id == str(artifact.id))).one()
    assert (entry.action, entry.details) == ("artifact.delete", {"jobId": str(job.id), "name": artifact.name})


def test_what_has_expired_can_still_be_deleted(
    app: Flask, client: FlaskClient, job: RunningJob, artifact: Artifact, address: str
) -> None:
    expire(app, artifact)
    assert client.delete(address, headers=job.owner.headers).status_code == 204
    assert job.files() == []


def test_a_file_that_is_being_deleted_is_sent_to_its_end(client: FlaskClient, job: RunningJob) -> None:
    address = f"{job.url}/{job.leave('large', bytes(4 * CHUNK_BYTES)).id}"
    answer = client.get(address, headers=job.owner.headers)
    assert client.delete(address, headers=job.owner.headers).status_code == 204
    assert len(answer.data) == 4 * CHUNK_BYTES
