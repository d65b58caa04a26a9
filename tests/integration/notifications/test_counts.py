"""The unread count is what a recount gives, whatever happens at once, and its version never goes back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from service.accounts.identity import Identity
from service.clock import utcnow
from service.database import transaction
from service.ids import first_id_at, new_id
from service.notifications import actions, approvals, expiry, snoozing
from service.notifications.counts import unread_count
from service.notifications.models import Notification
from service.notifications.queries import NotificationNotFound
from service.notifications.sending import fill_inboxes
from service.operations.partitions import create_partitions
from service.operations.retention import prune
from service.realtime.log import EventId, head, read_after
from tests.conftest import Account, MakeUser
from tests.factories.inboxes import ask_for_approval, put_in, recounted
from tests.factories.sends import part_of, send_news

pytestmark = pytest.mark.usefixtures("in_app")

DEVICES = 4
Act = tuple[str, int, int]


def identity_of(user: Account) -> Identity:
    return Identity(user.id, user.organization_id, user.username, frozenset({"user"}), 0)


class Inboxes:
    """The inboxes of two users who ask each other for approvals."""

    def __init__(self, users: Sequence[Account]) -> None:
        self.users = users
        self.ids: dict[UUID, list[UUID]] = {user.id: [put_in(user) for _ in range(3)] for user in users}
        self.asked: dict[UUID, list[UUID]] = {user.id: [] for user in users}
        for user in users:
            self.ask(user)

    def ask(self, sender: Account) -> None:
        """Something for both, by one of them."""
        for user_id, notification_id in ask_for_approval(sender, self.users).items():
            self.ids[user_id].append(notification_id)
            self.asked[user_id].append(notification_id)

    def send(self) -> None:
        """Something for both, as a job writes it into the inboxes of an audience."""
        send_id = send_news(self.users)
        places = list(fill_inboxes(part_of(send_id)))
        assert [place.delivered for place in places] == [len(self.users)]
        with transaction() as session:
            arrived = session.execute(
                select(Notification.user_id, Notification.id).where(Notification.send_id == send_id)
            )
            for user_id, notification_id in arrived:
                self.ids[user_id].append(notification_id)

    def act(self, what: str, user: Account, place: int) -> None:
        """Do something to one of a user's notifications, or with what there is."""
        mine = (self.asked if what == "approve" else self.ids)[user.id]
        try:
            if what == "arrive":
                mine.append(put_in(user))
            elif what == "ask":
                self.ask(user)
            elif what == "send":
                self.send()
            else:
                ACTS[what](mine[place % len(mine)], identity_of(user))
        except (NotificationNotFound, approvals.AlreadyResolved):
            # Another device was faster.
            return


def have_back(_notification_id: UUID, user: Identity) -> None:
    """The time of whatever is snoozed comes."""
    snoozed = (Notification.user_id == user.user_id, Notification.snoozed_until.is_not(None))
    with transaction() as session:
        session.execute(update(Notification).where(*snoozed).values(snoozed_until=utcnow()))
    snoozing.return_snoozed()


def expire(notification_id: UUID, _user: Identity) -> None:
    """The time of a notification is over."""
    with transaction() as session:
        session.execute(update(Notification).where(Notification.id == notification_id).values(expires_at=utcnow()))
    expiry.delete_expired()


ACTS: dict[str, Callable[[UUID, Identity], object]] = {
    "read": actions.mark_read,
    "unread": actions.mark_unread,
    "archive": actions.archive,
    "unarchive": actions.unarchive,
    "delete": actions.delete_notification,
    "unsnooze": snoozing.unsnooze,
    "snooze": lambda each, user: snoozing.snooze(each, user, utcnow() + timedelta(hours=1)),
    "approve": lambda each, user: approvals.take_action(each, "approve", user),
    "read all": lambda _, user: actions.mark_all_read(user),
    "have back": have_back,
    "expire": expire,
}
# What meets most often is done most often, to few notifications.
WHAT = [
    "arrive",
    "ask",
    "send",
    *ACTS,
    *["send", "read", "unread", "read all", "read all", "snooze", "have back", "approve"],
]
DEVICE = st.lists(st.tuples(st.sampled_from(WHAT), st.integers(0, 1), st.integers(0, 4)), min_size=6, max_size=12)


@settings(
    max_examples=12,
    deadline=None,
    database=None,
    derandomize=True,
    # What threads do cannot be replayed, so a failure is not made smaller.
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(devices=st.lists(DEVICE, min_size=DEVICES, max_size=DEVICES))
def test_counts_are_a_recount_whatever_devices_do_at_once(
    app: Flask, make_user: MakeUser, devices: list[list[Act]]
) -> None:
    first = make_user()
    inboxes = Inboxes([first, make_user(organization=first.organization_id)])
    begin = threading.Barrier(len(devices))

    def use(acts: list[Act]) -> None:
        seen = {user.id: 0 for user in inboxes.users}
        begin.wait(10)
        with app.app_context():
            for what, whose, place in acts:
                inboxes.act(what, inboxes.users[whose], place)
                for user in inboxes.users:
                    version = unread_count(user.id)["version"]
                    assert version >= seen[user.id]
                    seen[user.id] = version

    with ThreadPoolExecutor(len(devices)) as threads:
        list(threads.map(use, devices))
    for user in inboxes.users:
        counted = unread_count(user.id)
        assert counted["count"] == recounted(user)
        assert told(user).get(counted["version"], counted["count"]) == counted["count"]


def told(user: Account) -> dict[int, int]:
    """The counts that a user's devices were told, by version; one version has one count."""
    newest = head(str(user.id))
    if newest is None:
        return {}
    counts: dict[int, int] = {}
    for event in read_after(str(user.id), EventId(newest.epoch, 0)) or ():
        inbox = event.entry["inbox"]
        assert counts.setdefault(inbox["version"], inbox["count"]) == inbox["count"]
    return counts


def test_what_goes_with_its_month_while_it_is_read_is_counted_once(app: Flask, make_user: MakeUser) -> None:
    user = make_user()
    long_ago = utcnow() - timedelta(days=900)
    with transaction() as session:
        create_partitions(session.connection(), long_ago)
    first = first_id_at(long_ago).int
    old = [put_in(user, id=UUID(int=first + number), event_id=new_id()) for number in range(1, 61)]
    put_in(user)
    begin = threading.Barrier(4)

    def read(mine: Sequence[UUID]) -> None:
        begin.wait(10)
        with app.app_context():
            for notification_id in mine:
                try:
                    actions.mark_read(notification_id, identity_of(user))
                    actions.mark_unread(notification_id, identity_of(user))
                except NotificationNotFound:
                    return

    def drop() -> None:
        begin.wait(10)
        with app.app_context():
            prune()

    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(read, old[each::3]) for each in range(3)]
        running.append(threads.submit(drop))
        for each in running:
            each.result()
    assert unread_count(user.id)["count"] == recounted(user)
    prune()
    with transaction() as session:
        left = session.scalar(select(func.count()).select_from(Notification).where(Notification.id.in_(old)))
    assert (left, unread_count(user.id)["count"], recounted(user)) == (0, 1, 1)
