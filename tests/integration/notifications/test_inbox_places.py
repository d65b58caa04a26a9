"""A job that writes inboxes and dies goes on from where it was: who has deleted his notification is not told again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from service.clock import utcnow
from service.database import transaction
from service.notifications import sending
from service.notifications.models import InboxPlace, NotificationSend
from service.notifications.sending import fill_inboxes
from tasks.testing import run_job
from tests.conftest import Account
from tests.factories.sends import Sql, part_of, run_attempt

WHOLE = {"recipients": 51, "delivered": 51, "suppressed": 0}


class Killed(BaseException):
    """Nothing in a job's body sees it coming."""


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of twenty."""
    monkeypatch.setattr(sending, "BATCH", 20)


@pytest.fixture
def sent(crowd: Account, post: Callable[..., Any]) -> str:
    """The id of something sent to 51 people, whose job has not run."""
    send_id: str = post(crowd, all=True).json["id"]
    return send_id


def kill_after(reports: int) -> Callable[[Any], None]:
    """Kills the job with this report of its progress."""
    seen = []

    def told(report: Any) -> None:
        seen.append(report)
        if len(seen) == reports:
            raise Killed

    return told


def written(sql: Sql, send_id: str) -> tuple[int, int]:
    """How many notifications of a send there are, and how many are counted as unread."""
    (row,) = sql(
        """SELECT (SELECT count(*) FROM notifications WHERE send_id = :id) AS written,
            (SELECT coalesce(sum(unread), 0) FROM inboxes JOIN users ON users.id = user_id
                WHERE organization_id = (SELECT organization_id FROM notification_sends WHERE id = :id)) AS unread""",
        id=send_id,
    )
    return row["written"], row["unread"]


def delete_all(sql: Sql, send_id: str) -> None:
    """All who have it delete it, unread."""
    sql(
        """WITH gone AS (DELETE FROM notifications WHERE send_id = :id RETURNING user_id)
        UPDATE inboxes SET unread = unread - 1, version = version + 1 WHERE user_id IN (SELECT user_id FROM gone)""",
        id=send_id,
    )


def test_the_next_attempt_tells_nobody_again_and_its_result_is_whole(
    app: Flask, crowd: Account, sent: str, sql: Sql
) -> None:
    with app.app_context():
        with pytest.raises(Killed):
            run_job("in-app-notification", {"sendId": sent}, user_id=crowd.id, on_progress=kill_after(2))
        assert written(sql, sent) == (40, 40)
        delete_all(sql, sent)
        run = run_job("in-app-notification", {"sendId": sent}, user_id=crowd.id, attempt=2)
    assert run.result == WHOLE
    assert [report["current"] for report in run.progress] == [40, 51]
    assert written(sql, sent) == (11, 11)


def test_a_batch_whose_transaction_dies_is_written_by_the_next_attempt(
    app: Flask, crowd: Account, sent: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    register = sending.after_commit

    def die_in_the_second(callback: Callable[[], None]) -> None:
        batches.append(1)
        if len(batches) == 2:
            # The statement has run, and nothing is committed.
            raise Killed
        register(callback)

    monkeypatch.setattr(sending, "after_commit", die_in_the_second)
    with app.app_context():
        with pytest.raises(Killed):
            run_job("in-app-notification", {"sendId": sent}, user_id=crowd.id)
        assert written(sql, sent) == (20, 20)
        delete_all(sql, sent)
        run = run_job("in-app-notification", {"sendId": sent}, user_id=crowd.id, attempt=2)
    assert run.result == WHOLE
    assert [report["current"] for report in run.progress] == [20, 40, 51]
    assert written(sql, sent) == (31, 31)


def test_an_attempt_that_was_taken_for_dead_moves_nothing_back(app: Flask, sent: str, sql: Sql) -> None:
    with app.app_context():
        zombie = fill_inboxes(part_of(sent))
        assert next(zombie).recipients == 20
        successor = fill_inboxes(part_of(sent))
        assert [next(successor).recipients for _ in range(2)] == [20, 40]
        delete_all(sql, sent)
        # It wakes up where it was, finds that others have been there, and goes on from where they are.
        assert [(place.recipients, place.delivered) for place in zombie] == [(40, 40), (51, 51)]
        assert [place.recipients for place in successor] == [51], "what others wrote counts"
        with transaction() as session:
            (place,) = session.scalars(select(InboxPlace).where(InboxPlace.send_id == sent))
            assert (place.recipients, place.delivered) == (51, 51)
    assert written(sql, sent) == (11, 11)


def test_attempts_at_the_same_moment_tell_each_once(
    app: Flask, sent: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "BATCH", 3)
    begin = threading.Barrier(4)

    def fill(_: int) -> int:
        with app.app_context():
            part = part_of(sent)
            begin.wait(10)
            return max(place.recipients for place in fill_inboxes(part))

    with ThreadPoolExecutor(4) as threads:
        reached = list(threads.map(fill, range(4)))
    assert max(reached) == 51
    with app.app_context(), transaction() as session:
        (place,) = session.scalars(select(InboxPlace).where(InboxPlace.send_id == sent))
        assert (place.recipients, place.delivered) == (51, 51)
    assert written(sql, sent) == (51, 51)
    (versions,) = sql(
        """SELECT max(version) AS highest FROM inboxes
        WHERE user_id IN (SELECT user_id FROM notifications WHERE send_id = :id)""",
        id=sent,
    )
    assert versions["highest"] == 1, "nobody's count was changed twice"


def test_each_slice_has_a_place_of_its_own(
    app: Flask, client: FlaskClient, crowd: Account, sent: str, work: Any, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "BATCH", 8)
    monkeypatch.setitem(sending.SLICE, "in_app", 20)
    (job,) = sql("SELECT id FROM jobs WHERE tags @> ARRAY[:tag]", tag=f"send:{sent}")
    with app.app_context():
        assert run_attempt(job["id"]).result == {"recipients": 51, "jobs": 3}
        slices = sql("SELECT payload FROM jobs WHERE parent_id = :id ORDER BY payload ->> 'after'", id=job["id"])
        with pytest.raises(Killed):
            run_job("in-app-notification", slices[0]["payload"], user_id=crowd.id, on_progress=kill_after(1))
        delete_all(sql, sent)
    runs = work(sent)
    assert sorted(run.result["recipients"] for run in runs) == [11, 20, 20]
    assert written(sql, sent) == (51 - 8, 51 - 8)
    seen = client.get(f"/api/notification-sends/{sent}", headers=crowd.headers).json
    assert (seen["status"], seen["recipients"]) == ("completed", 51)


def test_what_is_cancelled_on_its_way_says_how_far_it_came(app: Flask, sent: str, sql: Sql) -> None:
    with app.app_context():
        places = fill_inboxes(part_of(sent))
        assert next(places).recipients == 20
        with transaction() as session:
            session.execute(update(NotificationSend).where(NotificationSend.id == sent).values(cancelled_at=utcnow()))
        assert list(places) == []
    assert written(sql, sent) == (20, 20)
