"""A send with an Idempotency-Key that comes twice is one, whatever has become of the world in between."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient

from service.clock import utcnow
from service.errors import NotAllowed
from service.notifications import sends
from service.notifications.audience import Audience
from service.notifications.sends import NewSend, Sender, send_all
from tests.conftest import Account, MakeUser
from tests.factories.sends import NEWS, Sql

Post = Callable[..., Any]


@pytest.fixture
def template(client: FlaskClient, make_user: MakeUser) -> Callable[[Account], dict[str, str]]:
    """Makes a template for a sender's tenant: its id, and its path for an administrator's headers."""

    def make(sender: Account) -> dict[str, str]:
        admin = make_user(("admin",), sender.organization_id)
        body = {"name": "greeting", "channel": "in_app", "subject": "Hi", "body": "Hello", "variables": []}
        made = client.post("/api/notification-templates", json=body, headers=admin.headers)
        assert made.status_code == 201, made.json
        return {"id": made.json["id"], **admin.headers}

    return make


def delete_template(client: FlaskClient, made: dict[str, str]) -> None:
    template_id = made.pop("id")
    assert client.delete(f"/api/notification-templates/{template_id}", headers=made).status_code in (200, 204)


def assert_first_answer(post: Post, sender: Account, first: Any, **fields: Any) -> None:
    """The same request has the first answer, another body conflicts, and without the key it is refused."""
    again = post(sender, key="k", **fields)
    assert (again.status_code, again.json) == (202, first.json)
    assert again.headers["Idempotency-Replayed"] == "true"
    conflict = post(sender, key="k", **{**fields, "category": "other"})
    assert (conflict.status_code, conflict.json["code"]) == (409, "idempotency_conflict")
    assert post(sender, **fields).status_code == 422


def test_a_key_that_comes_twice_sends_once(make_user: MakeUser, post: Post) -> None:
    sender = make_user(("sender",))
    first = post(sender, key="k", all=True, channels=["in_app", "email"])
    again = post(sender, key="k", all=True, channels=["in_app", "email"])
    assert (again.status_code, again.json) == (202, first.json)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert post(sender, key="k", all=True).json["code"] == "idempotency_conflict"


@pytest.mark.parametrize("by", ["template", "templateId"])
def test_it_has_the_first_answer_when_its_template_is_gone(
    client: FlaskClient, make_user: MakeUser, post: Post, template: Any, by: str
) -> None:
    sender = make_user(("sender",))
    made = template(sender)
    fields = {"all": True, by: made["id"] if by == "templateId" else "greeting"}
    first = post(sender, key="k", **fields)
    assert first.status_code == 202, first.json
    delete_template(client, made)
    assert_first_answer(post, sender, first, **fields)


def test_it_has_the_first_answer_when_its_recipients_are_gone(make_user: MakeUser, post: Post, sql: Sql) -> None:
    sender = make_user(("sender",))
    user = make_user(organization=sender.organization_id)
    first = post(sender, key="k", userIds=[str(user.id)])
    sql("UPDATE users SET is_active = false WHERE id = :id", id=user.id)
    assert_first_answer(post, sender, first, userIds=[str(user.id)])


def test_it_has_the_first_answer_when_its_time_has_passed(make_user: MakeUser, post: Post) -> None:
    sender = make_user(("sender",))
    times = {
        "sendAt": (utcnow() + timedelta(seconds=30)).isoformat(),
        "expiresAt": (utcnow() + timedelta(seconds=60)).isoformat(),
    }
    first = post(sender, key="k", all=True, **times)
    assert first.status_code == 202, first.json
    with time_machine.travel(utcnow() + timedelta(seconds=90)):
        assert_first_answer(post, sender, first, all=True, **times)


def test_a_batch_has_the_first_answer_too(client: FlaskClient, make_user: MakeUser, sql: Sql) -> None:
    sender = make_user(("sender",))
    user = make_user(organization=sender.organization_id)
    body = {"notifications": [{**NEWS, "userId": str(user.id)}, {**NEWS, "all": True, "channels": ["in_app", "email"]}]}

    def batch(said: dict[str, Any]) -> Any:
        headers = {**sender.headers, "Idempotency-Key": "k"}
        return client.post("/api/notifications/batch", json=said, headers=headers)

    first = batch(body)
    assert first.status_code == 202, first.json
    assert [len(each["jobs"]) for each in first.json["data"]] == [1, 2]
    sql("UPDATE users SET is_active = false WHERE id = :id", id=user.id)
    again = batch(body)
    assert (again.status_code, again.json) == (202, first.json)
    assert again.headers["Idempotency-Replayed"] == "true"
    other = batch({"notifications": body["notifications"][::-1]})
    assert (other.status_code, other.json["code"]) == (409, "idempotency_conflict")


def test_who_may_not_send_hears_nothing_of_the_first(app: Flask, make_user: MakeUser, post: Post) -> None:
    admin = make_user(("admin",))
    assert post(admin, key="k", all=True, critical=True).status_code == 202
    demoted = Sender(organization_id=admin.organization_id, user_id=admin.id, roles={"sender"})
    said = NewSend(audience=Audience(everybody=True), is_critical=True, **NEWS)
    with app.app_context(), pytest.raises(NotAllowed):
        send_all([said], demoted, idempotency_key="k")


def test_a_refused_request_leaves_its_key_free(make_user: MakeUser, post: Post) -> None:
    sender = make_user(("sender",))
    assert post(sender, key="k", roles=["operator"]).status_code == 422
    assert post(sender, key="k", all=True).status_code == 202


def test_a_request_that_dies_before_it_is_accepted_leaves_nothing(
    make_user: MakeUser, post: Post, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = make_user(("sender",))

    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(sends, "submit_jobs", die)
        with pytest.raises(Killed):
            post(sender, key="k", all=True)
    assert sql("SELECT FROM notification_sends WHERE sender_id = :id", id=sender.id) == []
    first = post(sender, key="k", all=True)
    assert (first.status_code, "Idempotency-Replayed" in first.headers) == (202, False)


def test_twins_at_the_same_moment_are_one(app: Flask, make_user: MakeUser, sql: Sql) -> None:
    sender = make_user(("sender",))
    begin = threading.Barrier(4)

    def send(_: int) -> Any:
        begin.wait(10)
        headers = {**sender.headers, "Idempotency-Key": "k"}
        return app.test_client().post("/api/notifications", json={**NEWS, "all": True}, headers=headers)

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(send, range(4)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json["id"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == 3
    assert len(sql("SELECT FROM notification_sends WHERE sender_id = :id", id=sender.id)) == 1
    assert len(sql("SELECT FROM jobs WHERE user_id = :id", id=sender.id)) == 1
