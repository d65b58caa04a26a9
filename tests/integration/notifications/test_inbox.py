"""The inbox: written once, read, counted, muted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from flask import Flask
from flask.testing import FlaskClient

from service.jobs import lifecycle
from service.jobs.actions import cancel_job
from service.jobs.submission import Submission, submit_job
from tests.conftest import Account, MakeUser
from tests.factories.jobs import run_a_job


def inbox(client: FlaskClient, user: Account, query: str = "") -> dict[str, object]:
    """The inbox as the user reads it."""
    answer = client.get(f"/api/notifications{query}", headers=user.headers)
    assert answer.status_code == 200
    document: dict[str, object] = answer.get_json()
    return document


def types(document: dict[str, object]) -> list[str]:
    """The types of the notifications of a page."""
    data = document["data"]
    assert isinstance(data, list)
    return [each["type"] for each in data]


def test_a_job_tells_its_owner_that_it_started_and_completed(
    app: Flask, client: FlaskClient, make_user: MakeUser
) -> None:
    user, other = make_user(), make_user()
    job_id = run_a_job(app, user)
    seen = inbox(client, user)
    assert types(seen) == ["job_completed", "job_started"]
    assert seen["unreadCount"] == 2
    assert seen["data"][0]["data"]["jobId"] == str(job_id)  # type: ignore[index]
    assert types(inbox(client, other)) == []


def test_read_unread_all_and_delete(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    run_a_job(app, user)
    first, second = (each["id"] for each in inbox(client, user)["data"])  # type: ignore[attr-defined]
    read = client.patch(f"/api/notifications/{first}/read", headers=user.headers).get_json()
    assert (read["id"], read["read"]) == (first, True)
    assert client.patch(f"/api/notifications/{first}/read", headers=user.headers).get_json() == read, "once"
    assert inbox(client, user)["unreadCount"] == 1
    assert [each["id"] for each in inbox(client, user, "?unread=true")["data"]] == [second]  # type: ignore[attr-defined]
    assert [each["id"] for each in inbox(client, user, "?unread=false")["data"]] == [first]  # type: ignore[attr-defined]
    client.patch(f"/api/notifications/{first}/unread", headers=user.headers)
    assert inbox(client, user)["unreadCount"] == 2
    assert client.patch("/api/notifications/read-all", headers=user.headers).get_json() == {"count": 2}
    assert client.patch("/api/notifications/read-all", headers=user.headers).get_json() == {"count": 0}
    deleted = client.delete(f"/api/notifications/{first}", headers=user.headers)
    assert deleted.get_json() == {"message": "Notification deleted"}
    assert [each["id"] for each in inbox(client, user)["data"]] == [second]  # type: ignore[attr-defined]
    gone = client.patch(f"/api/notifications/{first}/read", headers=user.headers)
    assert (gone.status_code, gone.get_json()["code"]) == (404, "notification_not_found")


def test_the_count_never_drifts_though_many_devices_act_at_once(
    app: Flask, client: FlaskClient, make_user: MakeUser
) -> None:
    user = make_user()
    for _ in range(4):
        run_a_job(app, user)
    ids = [each["id"] for each in inbox(client, user)["data"]]  # type: ignore[attr-defined]
    acts = [("PATCH", f"/api/notifications/{each}/{act}") for each in ids for act in ("read", "unread", "read")]
    acts += [("DELETE", f"/api/notifications/{ids[0]}"), ("PATCH", "/api/notifications/read-all")]

    def act(request: tuple[str, str]) -> None:
        method, path = request
        app.test_client().open(path, method=method, headers=user.headers)

    with ThreadPoolExecutor(8) as devices:
        list(devices.map(act, acts))
    counted = client.get("/api/notifications/unread-count", headers=user.headers).get_json()
    left = inbox(client, user, "?unread=true&limit=100")
    assert counted["count"] == len(left["data"]) == left["unreadCount"]  # type: ignore[arg-type]
    assert counted["version"] == left["unreadVersion"] > 4


def test_a_muted_type_is_not_told(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    preferences = client.get("/api/notifications/preferences", headers=user.headers).get_json()["data"]
    wanted = {(each["notificationType"], each["channel"]): each["enabled"] for each in preferences}
    assert wanted[("job_status", "in_app")] is True
    assert wanted[("system", "email")] is False
    mine = next(each for each in preferences if (each["notificationType"], each["channel"]) == ("job_status", "in_app"))
    path = f"/api/notifications/preferences/{mine['id']}"
    assert client.patch(path, json={"enabled": False}, headers=user.headers).get_json()["enabled"] is False
    run_a_job(app, user)
    assert inbox(client, user)["unreadCount"] == 0
    assert client.patch(path, json={"enabled": True}, headers=make_user().headers).status_code == 404


def test_another_users_notification(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    colleague, stranger = make_user(organization=user.organization_id), make_user()
    run_a_job(app, user)
    mine = inbox(client, user)["data"][0]["id"]  # type: ignore[index]
    for method, suffix in (("PATCH", "/read"), ("PATCH", "/unread"), ("DELETE", "")):
        path = f"/api/notifications/{mine}{suffix}"
        assert client.open(path, method=method, headers=colleague.headers).status_code == 403
        assert client.open(path, method=method, headers=stranger.headers).status_code == 404


def test_endings_are_told_with_their_reason(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    with app.app_context():
        for ending in ("fail", "cancel"):
            row = submit_job(
                Submission(type="demo-steps", payload={"steps": 1}, name="Export"),
                organization_id=user.organization_id,
                user_id=user.id,
            ).row
            job_id = UUID(str(row["id"]))
            if ending == "cancel":
                cancel_job(job_id, "not needed")
            else:
                lifecycle.start_job(job_id, 1, "w")
                error = {"code": "boom", "message": "The disk is full", "retryable": False}
                lifecycle.fail_job(job_id, 1, error)
    messages = [each["message"] for each in inbox(client, user)["data"]]  # type: ignore[attr-defined]
    assert messages == [
        "Export was cancelled: not needed",
        "Export failed: The disk is full",
        "Export has started.",
    ]
