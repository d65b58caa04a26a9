"""`/api/libraries`: who may do what, and where a library may lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.database import db
from service.ids import new_id
from service.jobs.models import Job
from service.settings import current_settings
from tests.conftest import Account, MakeUser


@pytest.fixture
def folder(app: Flask) -> Path:
    """A new folder where libraries may lie."""
    with app.app_context():
        root = current_settings().media_roots[0]
    path = root / str(new_id())
    path.mkdir(parents=True)
    return path


def make(client: FlaskClient, user: Account, folder: Path, name: str = "Films") -> dict[str, Any]:
    """A library of a user."""
    answer = client.post("/api/libraries", json={"name": name, "path": str(folder)}, headers=user.headers)
    assert answer.status_code == 201, answer.json
    body: dict[str, Any] = answer.json
    assert answer.headers["Location"] == f"/api/libraries/{body['id']}"
    return body


def test_a_library_is_made_changed_and_forgotten(client: FlaskClient, make_user: MakeUser, folder: Path) -> None:
    user = make_user()
    made = make(client, user, folder)
    address = f"/api/libraries/{made['id']}"
    assert client.get(address, headers=user.headers).json == made
    assert {name: made[name] for name in ("userId", "name", "path", "enabled", "lastScannedAt")} == {
        "userId": str(user.id),
        "name": "Films",
        "path": str(folder),
        "enabled": True,
        "lastScannedAt": None,
    }
    answer = client.patch(address, json={"name": "Movies", "enabled": False}, headers=user.headers)
    assert (answer.status_code, answer.json["name"], answer.json["enabled"]) == (200, "Movies", False)
    (folder / "below").mkdir()
    answer = client.patch(address, json={"path": f"{folder}/below/../below"}, headers=user.headers)
    assert answer.json["path"] == f"{folder}/below"
    assert client.delete(address, headers=user.headers).status_code == 204
    assert client.get(address, headers=user.headers).json["code"] == "library_not_found"


def test_a_name_is_taken_once_per_user(client: FlaskClient, make_user: MakeUser, folder: Path) -> None:
    user = make_user()
    make(client, user, folder)
    other = make(client, user, folder, "Other")
    answer = client.post("/api/libraries", json={"name": "Films", "path": str(folder)}, headers=user.headers)
    assert (answer.status_code, answer.json["code"]) == (409, "library_name_taken")
    assert (
        client.patch(f"/api/libraries/{other['id']}", json={"name": "Films"}, headers=user.headers).status_code == 409
    )


def test_a_path_outside_the_roots_is_refused(
    client: FlaskClient, make_user: MakeUser, folder: Path, tmp_path: Path
) -> None:
    user = make_user()
    (folder / "out").symlink_to(tmp_path)
    (folder / "film.mkv").touch()
    paths = ["/etc", "/", "films", "", str(tmp_path), f"{folder}/out", f"{folder}/../../..", f"{folder}/nothing"]
    for path in [*paths, f"{folder}/film.mkv"]:
        answer = client.post("/api/libraries", json={"name": "x", "path": path}, headers=user.headers)
        assert (answer.status_code, answer.json["code"], list(answer.json["errors"])) == (
            422,
            "validation_failed",
            ["path"],
        )
    made = make(client, user, folder)
    answer = client.patch(f"/api/libraries/{made['id']}", json={"path": "/etc"}, headers=user.headers)
    assert answer.status_code == 422
    assert client.get(f"/api/libraries/{made['id']}", headers=user.headers).json == made


CALLS = [
    ("GET", "", None),
    ("GET", "/items", None),
    ("PATCH", "", {"name": "Mine"}),
    ("DELETE", "", None),
    ("POST", "/scan", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_a_library_is_its_owners(
    client: FlaskClient, make_user: MakeUser, folder: Path, method: str, path: str, body: dict[str, Any] | None
) -> None:
    owner = make_user()
    address = f"/api/libraries/{make(client, owner, folder)['id']}{path}"
    colleague = make_user(organization=owner.organization_id)
    operator = make_user(("operator",), organization=owner.organization_id)
    assert client.open(address, method=method, json=body).status_code == 401
    answer = client.open(address, method=method, json=body, headers=make_user(("admin",)).headers)
    assert (answer.status_code, answer.json["code"]) == (404, "library_not_found")
    assert client.open(address, method=method, json=body, headers=colleague.headers).status_code == 403
    answer = client.open(address, method=method, json=body, headers=operator.headers)
    assert answer.status_code == (200 if method == "GET" else 403)


def test_lists_show_ones_own_and_to_operators_the_tenants(
    client: FlaskClient, make_user: MakeUser, folder: Path
) -> None:
    owner = make_user()
    make(client, owner, folder, "b")
    make(client, owner, folder, "a")
    operator = make_user(("operator",), organization=owner.organization_id)
    page = client.get("/api/libraries?limit=1", headers=owner.headers).json
    assert [each["name"] for each in page["data"]] == ["a"]
    assert page["pagination"]["total"] == 2
    assert len(client.get("/api/libraries", headers=operator.headers).json["data"]) == 2
    assert client.get("/api/libraries", headers=make_user().headers).json["data"] == []


def test_a_scan_is_a_job_of_the_owner(app: Flask, client: FlaskClient, make_user: MakeUser, folder: Path) -> None:
    user = make_user()
    made = make(client, user, folder)
    answer = client.post(f"/api/libraries/{made['id']}/scan", headers=user.headers)
    assert (answer.status_code, answer.json["message"]) == (202, "Library scan job queued")
    with app.app_context():
        job = db.session.get_one(Job, UUID(answer.json["jobId"]))
        assert (job.type, job.user_id, job.payload) == ("library-scan", user.id, {"libraryId": made["id"]})


def test_a_scan_may_be_submitted_as_any_job(client: FlaskClient, make_user: MakeUser, folder: Path) -> None:
    user = make_user()
    made = make(client, user, folder)

    def submit(who: Account, **payload: Any) -> tuple[int, str]:
        body = {"type": "library-scan", "payload": {"libraryId": made["id"], **payload}}
        answer = client.post("/api/jobs", json=body, headers=who.headers)
        return answer.status_code, answer.json.get("code", "")

    assert submit(user) == (202, "")
    assert submit(user, libraryPath=str(folder)) == (202, "")
    assert submit(user, libraryPath="/etc") == (422, "validation_failed")
    assert submit(make_user()) == (404, "library_not_found")
    assert submit(make_user(organization=user.organization_id)) == (403, "not_allowed")


@pytest.mark.parametrize("query", ["kind=sitcom", "gone=perhaps", "q=", "limit=101", "page=0"])
def test_filters_that_are_not_valid(client: FlaskClient, make_user: MakeUser, folder: Path, query: str) -> None:
    user = make_user()
    made = make(client, user, folder)
    assert client.get(f"/api/libraries/{made['id']}/items?{query}", headers=user.headers).status_code == 422
