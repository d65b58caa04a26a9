"""The event catalogue: its samples, and what is really planned, are as its schemas say."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from sqlalchemy import select

from service.database import db
from service.jobs import lifecycle
from service.jobs.actions import cancel_job
from service.jobs.queries import visible_job
from service.jobs.submission import Submission, submit_job
from service.notifier.channels.webhook import plan_progress
from service.webhooks.catalogue import KINDS
from service.webhooks.models import WebhookDelivery
from service.webhooks.payloads import body_of
from service.webhooks.schemas import CatalogueSchema
from tests.conftest import Account, MakeUser
from tests.factories.dead_letters import dead_letter, submit
from tests.factories.identities import identity_of
from tests.factories.jobs import start
from tests.factories.webhooks import make_endpoint
from tests.integration.realtime.documented import FORMATS

pytestmark = pytest.mark.usefixtures("in_app")

Kinds = dict[str, dict[str, Any]]


@pytest.fixture
def catalogue(client: FlaskClient, make_user: MakeUser) -> dict[str, Any]:
    """What the API says."""
    document: dict[str, Any] = client.get("/api/webhooks/event-types", headers=make_user().headers).get_json()
    return document


@pytest.fixture
def kinds(catalogue: dict[str, Any]) -> Kinds:
    """The kinds of events by the type that their bodies say."""
    return {kind["type"]: kind for kind in catalogue["data"]}


def faults(schema: dict[str, Any], body: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(schema, format_checker=FORMATS).iter_errors(body)]


def test_every_kind_of_event_is_told_with_schemas_that_fit_its_samples(catalogue: dict[str, Any], kinds: Kinds) -> None:
    assert not CatalogueSchema().validate(catalogue)
    assert [kind["eventType"] for kind in catalogue["data"]] == [*KINDS, None]
    assert set(kinds) == {
        "job.created",
        "job.started",
        "job.progress",
        "job.completed",
        "job.failed",
        "job.cancelled",
        "notification.created",
        "webhook.test",
    }
    assert catalogue["all"]["flatEventTypes"] == ["progress", "completed", "failed"]
    assert "notification" not in catalogue["all"]["eventTypes"]
    for kind in kinds.values():
        for schema, sample in (("schema", "sample"), ("flatSchema", "flatSample")):
            Draft202012Validator.check_schema(kind[schema])
            assert faults(kind[schema], kind[sample]) == [], kind["type"]
            for name in kind[sample]:
                without = {key: value for key, value in kind[sample].items() if key != name}
                assert faults(kind[schema], without), f"{name} is always there"


def live_through_everything(user: Account) -> None:
    """Jobs that come to every end there is."""
    submission = Submission(type="demo-steps", payload={"steps": 2})
    row = submit_job(submission, organization_id=user.organization_id, user_id=user.id).row
    job_id = UUID(str(row["id"]))
    assert start(job_id) is not None
    job = visible_job(job_id, identity_of(user))
    plan_progress(job, {"current": 1, "total": 2, "percentage": 50, "message": "half", "etaSeconds": 0.5})
    lifecycle.complete_job(job_id, 1, {"steps": 2})
    dead_letter(user)
    cancel_job(submit(user), "Not needed.")
    cancel_job(submit(user))


@pytest.mark.parametrize("payload_format", ["standard", "flat"])
def test_what_is_planned_is_as_the_catalogue_says(make_user: MakeUser, kinds: Kinds, payload_format: str) -> None:
    user = make_user()
    for event_type in KINDS:
        make_endpoint(user, event_type=event_type, payload_format=payload_format)
    live_through_everything(user)
    deliveries = db.session.scalars(select(WebhookDelivery).where(WebhookDelivery.user_id == user.id)).all()
    schema = {"standard": "schema", "flat": "flatSchema"}[payload_format]
    for delivery in deliveries:
        body = json.loads(body_of(delivery.payload, payload_format))
        assert faults(kinds[delivery.event_type][schema], body) == [], delivery.event_type
    assert {delivery.event_type for delivery in deliveries} == set(kinds) - {"webhook.test"}


@pytest.mark.parametrize("payload_format", ["standard", "flat"])
def test_all_is_what_the_catalogue_says(
    make_user: MakeUser, catalogue: dict[str, Any], kinds: Kinds, payload_format: str
) -> None:
    user = make_user()
    make_endpoint(user, event_type="all", payload_format=payload_format)
    live_through_everything(user)
    planned = db.session.scalars(select(WebhookDelivery.event_type).where(WebhookDelivery.user_id == user.id))
    words = catalogue["all"]["flatEventTypes" if payload_format == "flat" else "eventTypes"]
    assert {kinds[event_type]["eventType"] for event_type in planned} == set(words)
