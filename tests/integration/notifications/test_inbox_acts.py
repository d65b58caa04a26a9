"""The inbox: put away, put off, gone by itself, and found again by filters."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import update

from service.clock import isoformat, utcnow
from service.database import transaction
from service.notifications.expiry import delete_expired
from service.notifications.models import Notification
from service.notifications.snoozing import return_snoozed
from service.realtime.log import EventId, head, read_after
from tests.conftest import Account, MakeUser
from tests.factories.inboxes import put_in, recounted

pytestmark = pytest.mark.usefixtures("in_app")


class Inbox:
    """The inbox as its user sees it."""

    def __init__(self, client: FlaskClient, user: Account) -> None:
        self.client = client
        self.user = user

    def ids(self, query: str = "") -> list[UUID]:
        """What is listed."""
        answer = self.client.get(f"/api/notifications?{query}", headers=self.user.headers)
        assert answer.status_code == 200, answer.get_json()
        return [UUID(each["id"]) for each in answer.get_json()["data"]]

    def unread(self) -> int:
        """The count, which is what a recount gives."""
        answer = self.client.get("/api/notifications/unread-count", headers=self.user.headers).get_json()
        assert answer["count"] == recounted(self.user)
        count: int = answer["count"]
        return count

    def act(self, notification_id: UUID, act: str, status: int = 200, **body: Any) -> dict[str, Any]:
        """What answers PATCH …/{act}."""
        path = f"/api/notifications/{notification_id}/{act}"
        answer = self.client.patch(path, json=body or None, headers=self.user.headers)
        assert answer.status_code == status, answer.get_json()
        document: dict[str, Any] = answer.get_json()
        return document


@pytest.fixture
def inbox(client: FlaskClient, make_user: MakeUser) -> Inbox:
    return Inbox(client, make_user())


def told_since(user: Account, last: EventId | None) -> list[dict[str, Any]]:
    """What the devices of a user were told after that."""
    newest = head(str(user.id))
    assert newest
    return [event.entry for event in read_after(str(user.id), last or EventId(newest.epoch, 0)) or ()]


def due(notification_id: UUID, **columns: Any) -> None:
    """Have the time of something come."""
    with transaction() as session:
        session.execute(update(Notification).where(Notification.id == notification_id).values(**columns))


def test_what_is_archived_is_read_and_listed_on_its_own(inbox: Inbox) -> None:
    kept, away = put_in(inbox.user), put_in(inbox.user)
    archived = inbox.act(away, "archive")
    assert (archived["archived"], archived["read"]) == (True, True)
    assert archived["archivedAt"] == archived["readAt"]
    assert inbox.act(away, "archive") == archived, "once"
    assert (inbox.ids(), inbox.ids("archived=true"), inbox.unread()) == ([kept], [away], 1)
    back = inbox.act(away, "unarchive")
    assert (back["archived"], back["archivedAt"], back["read"]) == (False, None, True)
    assert (inbox.ids(), inbox.ids("archived=true"), inbox.unread()) == ([away, kept], [], 1)


def test_what_is_marked_unread_comes_back_from_the_archive(inbox: Inbox) -> None:
    away = put_in(inbox.user)
    inbox.act(away, "archive")
    assert inbox.unread() == 0
    inbox.act(away, "unread")
    assert (inbox.ids(), inbox.ids("archived=true"), inbox.unread()) == ([away], [], 1)
    assert told_since(inbox.user, None)[-1]["event"] == "NotificationUpdated", "the others have to be shown it again"


def test_what_is_snoozed_does_not_count_and_comes_back_by_itself(inbox: Inbox) -> None:
    other, later = put_in(inbox.user), put_in(inbox.user)
    until = utcnow() + timedelta(hours=3)
    assert inbox.act(later, "snooze", until=isoformat(until))["snoozedUntil"] == isoformat(until)
    assert (inbox.ids(), inbox.ids("snoozed=true"), inbox.unread()) == ([other], [later], 1)
    assert inbox.client.patch("/api/notifications/read-all", headers=inbox.user.headers).get_json() == {"count": 1}
    return_snoozed()
    assert inbox.ids("snoozed=true") == [later], "its time has not come"

    heard = head(str(inbox.user.id))
    due(later, snoozed_until=utcnow() - timedelta(seconds=1))
    assert return_snoozed() >= 1
    assert (inbox.ids(), inbox.ids("snoozed=true"), inbox.ids("unread=true"), inbox.unread()) == (
        [later, other],
        [],
        [later],
        1,
    )
    (told,) = told_since(inbox.user, heard)
    assert (told["event"], told["inbox"]["count"]) == ("NotificationReturned", 1)
    shown = inbox.client.get(f"/api/notifications/{later}", headers=inbox.user.headers).get_json()
    assert told["notification"] == shown, "the sockets say what REST says"
    return_snoozed()
    assert len(told_since(inbox.user, heard)) == 1, "once"


def test_what_was_read_before_its_time_comes_back_as_read(inbox: Inbox) -> None:
    later = put_in(inbox.user)
    inbox.act(later, "snooze", seconds=60)
    inbox.act(later, "read")
    assert inbox.unread() == 0
    due(later, snoozed_until=utcnow())
    return_snoozed()
    assert (inbox.ids("unread=false"), inbox.unread()) == ([later], 0)


def test_what_is_snoozed_can_be_had_back_at_once_or_be_archived(inbox: Inbox) -> None:
    back, away = put_in(inbox.user), put_in(inbox.user)
    for each in (back, away):
        inbox.act(each, "snooze", seconds=60)
    assert inbox.unread() == 0
    assert inbox.act(back, "unsnooze")["snoozedUntil"] is None
    assert inbox.act(away, "archive")["snoozedUntil"] is None
    assert (inbox.ids(), inbox.ids("archived=true"), inbox.ids("snoozed=true")) == ([back], [away], [])
    assert inbox.unread() == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "until"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": 366 * 86_400}, "seconds"),
        ({"seconds": 60, "until": "2999-01-01T00:00:00Z"}, "until"),
        ({"until": "2000-01-01T00:00:00Z"}, "until"),
        ({"until": "2999-01-01T00:00:00Z"}, "until"),
        # It would be deleted before it came back.
        ({"seconds": 200 * 86_400}, "until"),
    ],
)
def test_nothing_is_put_off_to_a_time_that_will_not_do(inbox: Inbox, body: dict[str, Any], field: str) -> None:
    path = f"/api/notifications/{put_in(inbox.user)}/snooze"
    answer = inbox.client.patch(path, json=body, headers=inbox.user.headers)
    assert (answer.status_code, list(answer.get_json()["errors"])) == (422, [field])
    assert inbox.unread() == 1


def test_what_has_expired_is_gone_at_once_and_counted_no_more(inbox: Inbox) -> None:
    soon = utcnow() + timedelta(hours=1)
    unread, read, off = (put_in(inbox.user, expires_at=soon) for _ in range(3))
    stays = put_in(inbox.user)
    inbox.act(read, "read")
    inbox.act(off, "snooze", seconds=60)
    assert inbox.unread() == 2
    delete_expired()
    assert inbox.ids() == [stays, read, unread]

    heard = head(str(inbox.user.id))
    for each in (unread, read, off):
        due(each, expires_at=utcnow())
    assert (inbox.ids(), inbox.ids("snoozed=true")) == ([stays], [])
    assert inbox.act(unread, "read", 404)["code"] == "notification_not_found"
    assert delete_expired() >= 3
    assert inbox.unread() == 1
    told = told_since(inbox.user, heard)
    assert {each["event"] for each in told} == {"NotificationDeleted"}
    assert {each["notificationId"] for each in told} == {str(each) for each in (unread, read, off)}
    assert {each["inbox"]["count"] for each in told} == {1}


def test_the_inbox_is_searched_by_kind_and_time(inbox: Inbox) -> None:
    begins = utcnow()
    first = put_in(inbox.user, type="backup", category="jobs")
    between = utcnow() + timedelta(milliseconds=2)
    while utcnow() < between:
        continue
    second = put_in(inbox.user, type="invitation", category="invitations")
    for query, found in (
        ("type=backup", [first]),
        ("category=invitations", [second]),
        ("type=backup&category=invitations", []),
        (f"since={isoformat(between)}", [second]),
        (f"since={isoformat(begins)}&until={isoformat(between)}", [first]),
    ):
        assert inbox.ids(query) == found, query


def test_one_notification_is_read_by_its_user_alone(inbox: Inbox, make_user: MakeUser) -> None:
    mine = put_in(inbox.user)
    path = f"/api/notifications/{mine}"
    read = inbox.client.get(path, headers=inbox.user.headers).get_json()
    assert read == inbox.client.get("/api/notifications", headers=inbox.user.headers).get_json()["data"][0]
    assert inbox.unread() == 1, "looking is not reading"
    colleague, stranger = make_user(organization=inbox.user.organization_id), make_user(roles=("admin",))
    for method, suffix, body in (
        ("GET", "", None),
        ("PATCH", "/archive", None),
        ("PATCH", "/unarchive", None),
        ("PATCH", "/snooze", {"seconds": 60}),
        ("PATCH", "/unsnooze", None),
        ("POST", "/actions/approve", None),
    ):
        for other, status in ((colleague, 403), (stranger, 404)):
            answer = inbox.client.open(f"{path}{suffix}", method=method, json=body, headers=other.headers)
            assert answer.status_code == status, (method, suffix)
