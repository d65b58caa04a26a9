"""The buttons of notifications: one presses, and the matter is settled for everybody who was asked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.realtime.log import EventId, head, read_after
from tests.conftest import Account, MakeUser
from tests.factories.inboxes import ask_for_approval, put_in, recounted
from tests.factories.untellable import make_untellable

pytestmark = pytest.mark.usefixtures("in_app")


def press(client: FlaskClient, user: Account, notification_id: UUID, key: str) -> tuple[int, dict[str, Any]]:
    """Press a button: status and answer."""
    answer = client.post(f"/api/notifications/{notification_id}/actions/{key}", headers=user.headers)
    return answer.status_code, answer.get_json()


def read(client: FlaskClient, user: Account) -> dict[str, Any]:
    """The inbox of a user."""
    document: dict[str, Any] = client.get("/api/notifications", headers=user.headers).get_json()
    return document


def last_told(user: Account) -> dict[str, Any]:
    """The newest event of a user."""
    newest = head(str(user.id))
    assert newest
    return (read_after(str(user.id), EventId(newest.epoch, newest.seq - 1)) or [])[-1].entry


def test_who_approves_settles_it_for_all_and_tells_who_asked(client: FlaskClient, make_user: MakeUser) -> None:
    sender = make_user()
    first, second = (make_user(organization=sender.organization_id) for _ in range(2))
    asked = ask_for_approval(sender, [first, second])
    (before,) = read(client, second)["data"]
    assert [(each["key"], each["kind"]) for each in before["actions"]] == [("approve", "action"), ("reject", "action")]
    assert before["resolution"] is None

    status, pressed = press(client, first, asked[first.id], "approve")
    assert (status, pressed["resolution"], pressed["read"]) == (200, "approve", True)
    assert read(client, first)["unreadCount"] == recounted(first) == 0
    (after,) = read(client, second)["data"]
    assert (after["resolution"], after["read"]) == ("approve", False), "who has not seen it yet may want to"
    assert read(client, second)["unreadCount"] == recounted(second) == 1
    told = last_told(second)
    assert (told["event"], told["notification"], told["inbox"]["count"]) == ("NotificationUpdated", after, 1)

    news = read(client, sender)["data"]
    assert [(each["type"], each["title"]) for each in news] == [
        ("approval_resolved", f"{first.username} approved: Deploy on Friday?")
    ]
    assert news[0]["data"] == {"sendId": pressed["sendId"], "resolution": "approve", "resolvedBy": str(first.id)}


def test_a_matter_is_settled_also_where_who_asked_cannot_be_told(client: FlaskClient, make_user: MakeUser) -> None:
    sender = make_user()
    asked = make_user(organization=sender.organization_id)
    notifications = ask_for_approval(sender, [asked])
    make_untellable(sender.id)
    status, pressed = press(client, asked, notifications[asked.id], "approve")
    assert (status, pressed["resolution"]) == (200, "approve")
    (after,) = read(client, asked)["data"]
    assert (after["resolution"], after["read"]) == ("approve", True)
    assert read(client, sender)["data"] == []


def test_what_is_settled_stays_so(client: FlaskClient, make_user: MakeUser) -> None:
    sender = make_user()
    first, second = (make_user(organization=sender.organization_id) for _ in range(2))
    asked = ask_for_approval(sender, [first, second])
    assert press(client, first, asked[first.id], "reject")[0] == 200
    for user in (first, second):
        status, refused = press(client, user, asked[user.id], "approve")
        assert (status, refused["code"], refused["errors"]) == (409, "already_resolved", {"resolution": ["reject"]})
    assert read(client, sender)["data"][0]["title"] == f"{first.username} rejected: Deploy on Friday?"
    assert len(read(client, sender)["data"]) == 1


def test_of_fifty_who_press_at_once_one_wins(app: Flask, make_user: MakeUser, client: FlaskClient) -> None:
    sender = make_user()
    asked = [make_user(organization=sender.organization_id) for _ in range(10)]
    notifications = ask_for_approval(sender, asked)
    presses = [(user, key) for user in asked for key in ("approve", "reject", "approve", "reject", "approve")]

    def answer(pressed: tuple[Account, str]) -> tuple[int, str]:
        user, key = pressed
        status, document = press(app.test_client(), user, notifications[user.id], key)
        return status, document["resolution"] if status == 200 else document["errors"]["resolution"][0]

    with ThreadPoolExecutor(16) as people:
        answers = list(people.map(answer, presses))
    (won,) = (resolution for status, resolution in answers if status == 200)
    assert sorted(status for status, _ in answers) == [200, *[409] * 49]
    assert {resolution for _, resolution in answers} == {won}
    assert {read(client, user)["data"][0]["resolution"] for user in asked} == {won}
    assert [read(client, user)["unreadCount"] for user in asked] == [recounted(user) for user in asked]
    assert sum(recounted(user) for user in asked) == 9
    assert len(read(client, sender)["data"]) == 1


def test_two_who_answer_each_other_at_once_do_not_block_each_other(app: Flask, make_user: MakeUser) -> None:
    first = make_user()
    second = make_user(organization=first.organization_id)
    rounds = [
        (ask_for_approval(first, [second])[second.id], ask_for_approval(second, [first])[first.id]) for _ in range(20)
    ]
    together = Barrier(2)

    def answer(user: Account, mine: list[UUID]) -> list[int]:
        statuses = []
        for notification_id in mine:
            together.wait(10)
            statuses.append(press(app.test_client(), user, notification_id, "approve")[0])
        return statuses

    with ThreadPoolExecutor(2) as people:
        answers = list(people.map(answer, (second, first), map(list, zip(*rounds, strict=True))))
    assert answers == [[200] * 20] * 2
    # The other's answers.
    assert (recounted(first), recounted(second)) == (20, 20)


def test_who_asks_and_answers_is_not_told_of_it(client: FlaskClient, make_user: MakeUser) -> None:
    sender = make_user()
    asked = ask_for_approval(sender, [sender])
    assert press(client, sender, asked[sender.id], "approve")[0] == 200
    assert [each["type"] for each in read(client, sender)["data"]] == ["approval"]


def test_only_its_own_buttons_can_be_pressed(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    link = {"key": "view", "label": "View Results", "kind": "link", "url": "https://example.com/"}
    button = {"key": "retry", "label": "Try again", "kind": "action"}
    plain, two = put_in(user), put_in(user, actions=[link, button])
    for notification_id, key, status, code in (
        (plain, "approve", 404, "action_not_found"),
        (two, "approve", 404, "action_not_found"),
        (two, "view", 409, "action_is_link"),
    ):
        answered, document = press(client, user, notification_id, key)
        assert (answered, document["code"]) == (status, code)
    assert read(client, user)["unreadCount"] == 2
    # Nobody else was sent the same: it is settled for its user.
    assert press(client, user, two, "retry")[1]["resolution"] == "retry"
    assert press(client, user, two, "retry")[1]["code"] == "already_resolved"
    assert read(client, user)["unreadCount"] == recounted(user) == 1
