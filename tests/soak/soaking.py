"""A soak from its beginning to its end: work and torment, then rest, then everything is read."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import redis

from devstack import programs
from tests.acceptance.platform import Person, Platform
from tests.acceptance.receiver import Post, Receiver
from tests.acceptance.sockets import Socket
from tests.soak import work
from tests.soak.customer import Customer
from tests.soak.hearing import Hearing
from tests.soak.history import History
from tests.soak.ledger import Ledger, Promise, Quota
from tests.soak.scale import Scale
from tests.soak.tormentor import Tormentor

PEOPLE = 2
CUSTOMERS_EACH = 4
# After the torment: until every job has ended, until everybody has been told.
REST_SECONDS = 120.0
TELL_SECONDS = 90.0
# Counting thousands of jobs is work for the platform's database too.
_POLL_SECONDS = 0.25
_FINAL = "('completed', 'failed', 'cancelled')"

# What may be left of nothing.
LEFTOVERS = {
    "jobs that have not ended": f"SELECT count(*) FROM jobs WHERE status NOT IN {_FINAL}",
    "leases of ended jobs": f"SELECT count(*) FROM jobs WHERE status IN {_FINAL} AND lease_expires_at IS NOT NULL",
    "unique keys of ended jobs": f"SELECT count(*) FROM jobs WHERE status IN {_FINAL} AND unique_held",
    "ends that dependents wait for": f"SELECT count(*) FROM jobs WHERE status IN {_FINAL} AND has_dependents",
    "dependencies": "SELECT count(*) FROM job_dependencies WHERE NOT settled",
    "running workflows": "SELECT count(*) FROM workflows WHERE status = 'running'",
    "webhooks to be delivered": "SELECT count(*) FROM webhook_deliveries WHERE status IN ('pending', 'delivering')",
}


@dataclass(frozen=True)
class Soak:
    """What there is to be judged."""

    scale: Scale
    ledger: Ledger
    tormentor: Tormentor
    history: History
    posts: Sequence[Post]
    hearings: dict[str, Hearing]
    deaf: Sequence[str]
    workflows: dict[str, str]
    submissions: int
    leftovers: dict[str, int]
    torment_seconds: float
    rest_seconds: float
    telling_seconds: float

    @property
    def promises(self) -> list[Promise]:
        """The accepted jobs."""
        return list(self.ledger.promises.values())

    def is_poison(self, promise: Promise) -> bool:
        """Whether a job, or one it waited for, failed because its workers died too often: rare, and legal."""
        return self.history.code(promise.job_id) == "worker_lost" or any(
            self.is_poison(self.ledger.promises[parent]) for parent in promise.parents
        )


def soak(platform: Platform, receiver: Receiver, scale: Scale) -> Soak:
    """Submit work while the platform suffers, let it come to rest, and read what became of everything."""
    # It takes part in nothing, and costs a process.
    platform.stack.process("flower").stop()
    platform.stack.add(programs.worker(3, "worker-2", "jobs-2"))
    platform.mend()
    people = [platform.newcomer() for _ in range(PEOPLE)]
    for person in people:
        person.add_webhook(receiver.url)
    with ExitStack() as connections:
        sockets = {person.id: connections.enter_context(person.socket()) for person in people}
        ledger = Ledger()
        tormentor = Tormentor(platform, {"worker": "jobs", "worker-2": "jobs-2"}, scale.seed)
        began = time.monotonic()
        customers = _torment(people, ledger, tormentor, scale)
        tormented = time.monotonic()
        _come_to_rest(platform, tormentor, customers, ledger)
        rested = time.monotonic()
        _let_all_be_told(platform)
        told = time.monotonic()
        deaf = [person.username for person in people if not _hears(person, sockets[person.id], ledger)]
        _let_all_be_told(platform)
        left = {what: count for what, count in _leftovers(platform).items() if count}
        owners = [person.id for person in people]
        return Soak(
            scale=scale,
            ledger=ledger,
            tormentor=tormentor,
            history=History.read(platform.records, owners),
            posts=receiver.posts(),
            hearings={owner: Hearing(socket.journal) for owner, socket in sockets.items()},
            deaf=deaf,
            workflows=_workflows(platform),
            submissions=_count(platform, "SELECT count(*) FROM idempotency_keys"),
            leftovers=left,
            torment_seconds=tormented - began,
            rest_seconds=rested - tormented,
            telling_seconds=told - rested,
        )


def _torment(people: Sequence[Person], ledger: Ledger, tormentor: Tormentor, scale: Scale) -> Sequence[Customer]:
    quota = Quota(scale)

    def next_work(chance: random.Random) -> Callable[[Customer], None] | None:
        (kind,) = chance.choices(work.ALL, [each.share for each in work.ALL])
        return kind.submit if quota.take(kind.jobs) else None

    customers = [
        Customer(f"customer {number} of person {place}", person.again(), ledger, scale.seed)
        for place, person in enumerate(people)
        for number in range(CUSTOMERS_EACH)
    ]
    for customer in customers:
        customer.start(next_work)
    tormentor.torment(lambda: not quota.is_used_up, scale.pause)
    return customers


def _come_to_rest(platform: Platform, tormentor: Tormentor, customers: Sequence[Customer], ledger: Ledger) -> None:
    tormentor.find_fallen()
    platform.mend()
    ends = time.monotonic() + REST_SECONDS
    for customer in customers:
        customer.join(max(0.0, ends - time.monotonic()))

    def all_ended() -> bool:
        counts = platform.records.statuses(list(ledger.promises))
        return counts["completed"] + counts["failed"] + counts["cancelled"] == len(ledger.promises)

    _comes(all_ended, REST_SECONDS)


def _let_all_be_told(platform: Platform) -> None:
    _comes(lambda: not any(_leftovers(platform).values()), TELL_SECONDS)


def _comes(condition: Callable[[], object], seconds: float) -> bool:
    """Whether a condition comes true in time: what has not the tests say, each in its own words."""
    ends = time.monotonic() + seconds
    while not (comes := bool(condition())) and time.monotonic() < ends:
        time.sleep(_POLL_SECONDS)
    return comes


def _hears(person: Person, socket: Socket, ledger: Ledger) -> bool:
    """Whether a socket hears of a job that is submitted now; after that it has heard all it ever will of the others."""
    job_id = person.submit()
    ledger.promise(Promise(job_id=job_id, owner=person.id, kind="last of all"))
    return _comes(lambda: any(each.name == "job:completed" for each in socket.journal.about(job_id)), 30)


def _leftovers(platform: Platform) -> dict[str, int]:
    counts = {what: _count(platform, statement) for what, statement in LEFTOVERS.items()}
    return {**counts, "messages in the broker": _messages(platform)}


def _count(platform: Platform, statement: str) -> int:
    return int(platform.records.rows(statement)[0]["count"])


def _messages(platform: Platform) -> int:
    """Messages of jobs that wait in the broker: a list for each priority."""
    with redis.Redis.from_url(platform.stack.redis_url) as client:
        answers: list[Any] = [client.llen(key) for key in client.scan_iter("carillon:broker:default*", _type="LIST")]
    return sum(answers)


def _workflows(platform: Platform) -> dict[str, str]:
    return {row["id"]: row["status"] for row in platform.records.rows("SELECT id::text, status FROM workflows")}
