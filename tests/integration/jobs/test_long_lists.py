"""Lists among the many jobs of a platform that has run for weeks; the history is the one that `make bench` writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from bench.history import COMMON_TAG, RARE_TAG, History
from service import pagination
from service.accounts.roles import OPERATOR, USER
from service.database import db, transaction
from service.jobs.filters import JobFilter, matching
from service.jobs.models import Job
from service.jobs.queries import visible
from service.jobs.schemas import JobSchema
from tests.conftest import Account, MakeUser, Servers
from tests.factories.identities import identity_of

ROWS = 3_000

THEIRS = "user_id IN (SELECT id FROM users WHERE username LIKE 'history%' OR id = :owner)"
FORGET = (
    f"DELETE FROM job_executions WHERE job_id IN (SELECT id FROM jobs WHERE {THEIRS})",
    *[f"DELETE FROM {table} WHERE {THEIRS}" for table in ("notifications", "jobs")],
    "DELETE FROM users WHERE username LIKE 'history%'",
    "DELETE FROM organizations WHERE name LIKE 'history-%'",
)


@pytest.fixture
def diligent(in_app: None, servers: Servers, make_user: MakeUser) -> Iterator[Account]:
    """A user who has 30 % of the jobs of a history."""
    account = make_user()
    History(servers.postgres.url, account.username).grow(ROWS)
    yield account
    with transaction() as session:
        for statement in FORGET:
            session.execute(text(statement), {"owner": account.id} if ":owner" in statement else {})


def read(client: FlaskClient, account: Account, path: str) -> dict[str, Any]:
    answer = client.get(path, headers=account.headers)
    assert answer.status_code == 200, answer.get_json()
    document: dict[str, Any] = answer.get_json()
    return document


def test_the_history_is_one_that_the_product_reads(client: FlaskClient, diligent: Account) -> None:
    everything = read(client, diligent, "/api/jobs?limit=100")
    assert 0.25 * ROWS < everything["pagination"]["total"] < 0.35 * ROWS
    assert not JobSchema(many=True).validate(everything["data"])
    made = [job["createdAt"] for job in everything["data"]]
    assert made == sorted(made, reverse=True), "ids tell when the jobs were made"
    totals = {
        status: read(client, diligent, f"/api/jobs?status={status}")["pagination"]["total"]
        for status in ("completed", "failed", "cancelled", "active")
    }
    assert totals["completed"] > 10 * totals["failed"] > totals["active"] == 0 < totals["cancelled"]
    failed = read(client, diligent, "/api/dead-letters")["data"][0]
    attempts = read(client, diligent, f"/api/jobs/{failed['id']}/executions")["data"]
    assert len(attempts) == failed["attempt"]
    assert attempts[-1]["error"] == failed["error"]
    told = read(client, diligent, "/api/notifications")["data"][0]
    assert read(client, diligent, f"/api/jobs/{told['data']['jobId']}")["name"] in told["message"]


def test_what_is_too_long_to_count_is_estimated(
    client: FlaskClient, diligent: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/api/jobs?limit=20&tag={COMMON_TAG}"
    counted = read(client, diligent, path)["pagination"]
    assert "totalIsEstimate" not in counted
    monkeypatch.setattr(pagination, "COUNTED_COST", 0.0)
    estimated = read(client, diligent, path)["pagination"]
    assert estimated["totalIsEstimate"]
    # PostgreSQL takes user and tag for independent, so that other people's jobs make it guess too low.
    assert 20 <= estimated["total"] <= 2 * counted["total"]
    assert estimated["totalPages"] == -(-estimated["total"] // 20)
    short = read(client, diligent, "/api/jobs?limit=100&status=cancelled")
    assert "totalIsEstimate" not in short["pagination"], "it is seen where it ends"
    assert short["pagination"]["total"] == len(short["data"]) > 0


def test_a_page_by_number_is_the_one_after_the_pages_before(client: FlaskClient, diligent: Account) -> None:
    by_number = [read(client, diligent, f"/api/jobs?limit=7&page={page}") for page in (1, 2, 3)]
    ids = [job["id"] for page in by_number for job in page["data"]]
    assert ids == [job["id"] for job in read(client, diligent, "/api/jobs?limit=21")["data"]]
    after = read(client, diligent, f"/api/jobs?limit=7&cursor={by_number[0]['pagination']['nextCursor']}")
    assert after["data"] == by_number[1]["data"]


def test_a_search_that_takes_too_long_is_refused(
    client: FlaskClient, servers: Servers, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = make_user()
    monkeypatch.setattr(pagination, "READING_SECONDS", 0.2)
    with closing(psycopg2.connect(servers.postgres.url)) as connection, connection.cursor() as cursor:
        # To the list this is a table that takes very long to read.
        cursor.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        answer = client.get("/api/jobs?q=needle", headers=account.headers)
    assert (answer.status_code, answer.get_json()["code"]) == (422, "search_too_broad")
    assert read(client, account, "/api/jobs?q=needle")["data"] == [], "the connection is as good as new"


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (JobFilter(type="job-actions"), "{}_type_id"),
        (JobFilter(statuses=("failed",)), "{}_status_id"),
        (JobFilter(statuses=("cancelled",)), "{}_status_id"),
        (JobFilter(statuses=("blocked",)), "{}_status_id"),
        (JobFilter(tag=RARE_TAG), "tags"),
    ],
)
def test_an_index_knows_what_is_rare(diligent: Account, wanted: JobFilter, index: str) -> None:
    for role, owner in ((USER, "user_id"), (OPERATOR, "organization_id")):
        query = matching(visible(identity_of(diligent, role)), wanted)
        # In so small a table PostgreSQL would rather read all of it; where no index serves it still does.
        db.session.execute(text("SET LOCAL enable_seqscan = off"))
        plan = pagination._plan(query.with_only_columns(Job.id).order_by(Job.id.desc()).limit(20))
        db.session.rollback()
        assert f"'ix_jobs_{index.format(owner)}'" in str(plan)
