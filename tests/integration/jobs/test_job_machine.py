"""The life of jobs against a model: whatever happens in whatever order, nothing is lost, doubled or stuck.

`CARILLON_LONG=1` looks for longer, and from another place each time; `CARILLON_SEED` is the place to look from.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import delete, update

from service.crypto import encrypt
from service.database import db, transaction
from service.jobs import lifecycle
from service.jobs.models import Job
from service.jobs.states import FINAL
from service.notifications.models import NotificationPreference
from service.queues.models import JobLimit
from service.webhooks.models import Webhook
from tests.conftest import MakeUser
from tests.integration.jobs.machine.records import Broker, Records
from tests.integration.jobs.machine.rules import JobMachine
from tests.integration.jobs.machine.watched import Site

IS_LONG = os.environ.get("CARILLON_LONG") == "1"
SEED = os.environ.get("CARILLON_SEED")

PROFILE = settings(
    max_examples=500 if IS_LONG else 50,
    stateful_step_count=80 if IS_LONG else 50,
    deadline=None,
    # What it finds is to be seen by everybody, not only where it was found.
    database=None,
    derandomize=not IS_LONG and SEED is None,
    # It is shrunk, but not explained: that would take as long again.
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much),
    print_blob=True,
    report_multiple_bugs=False,
)


@pytest.fixture
def site(make_user: MakeUser, in_app: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Three users, and nobody else's jobs in their way."""
    # The server is young, and its leases are none that a restart has let run out.
    monkeypatch.setattr(lifecycle, "RESTART_GRACE", "interval '0 s'")
    first = make_user()
    accounts = (first, make_user(organization=first.organization_id), make_user())
    with transaction() as session:
        session.execute(update(Job).where(Job.status.not_in(FINAL)).values(status="cancelled"))
        session.execute(delete(JobLimit))
        session.execute(
            update(NotificationPreference)
            .where(NotificationPreference.user_id == accounts[1].id, NotificationPreference.channel == "in_app")
            .values(enabled=False)
        )
        session.add(
            Webhook(
                organization_id=first.organization_id,
                user_id=first.id,
                url="http://127.0.0.1:9/",
                event_type="all",
                secret=encrypt("none"),
            )
        )
    broker = Broker()
    site = Site(accounts, Records([account.id for account in accounts]), broker)
    yield site
    db.session.rollback()
    with transaction() as session:
        session.execute(delete(JobLimit))
    site.clear()
    broker.close()


# A failure is shrunk before it is told.
@pytest.mark.timeout(0 if IS_LONG else 600)
def test_jobs_live_as_the_model_says(site: Site) -> None:
    number = int(SEED) if SEED else random.SystemRandom().getrandbits(32)
    print(f"CARILLON_SEED={number}" if IS_LONG or SEED else "the same examples each time")
    machine = type("Machine", (JobMachine,), {"site": site})
    run_state_machine_as_test(seed(number)(machine) if IS_LONG or SEED else machine, settings=PROFILE)
