"""Whoever kills, stops and freezes the parts of a platform, in an order of chance that a seed repeats."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg2

from devstack.postgres import PostgresServer
from devstack.processes import Process
from devstack.redis_server import RedisServer
from devstack.servers import Server
from tests.acceptance.platform import Platform

CHILD_KILLED = "child killed"
WORKER_KILLED = "worker killed"
WORKER_STOPPED = "worker stopped"
DATABASE_RESTARTED = "PostgreSQL restarted"
DATABASE_KILLED = "PostgreSQL killed"
# Jobs come every moment: some worker runs one within this time.
BUSY_SECONDS = 20.0


@dataclass(frozen=True)
class Deed:
    """A fault, from its beginning until what it hit was started again."""

    name: str
    # The worker that it hit, by the name of its node.
    node: str | None
    began: datetime
    ended: datetime


class Tormentor:
    """Hurts one platform; knows its processes by their handles, and no others."""

    def __init__(self, platform: Platform, workers: Mapping[str, str], seed: int) -> None:
        self._platform = platform
        # Names of processes, and of the nodes that they are to Celery.
        self._workers = workers
        self._random = random.Random(f"{seed} tormentor")
        # What to do, and how often among the others.
        self._means: dict[str, tuple[Callable[[], str | None], int]] = {
            CHILD_KILLED: (self._kill_child, 6),
            WORKER_KILLED: (self._kill_worker, 3),
            WORKER_STOPPED: (self._stop_worker, 2),
            "beat killed": (lambda: self._kill(self._process("beat")), 2),
            "delivery killed": (lambda: self._kill(self._process("delivery")), 2),
            "web killed": (lambda: self._kill(self._process("web")), 2),
            "Redis killed": (self._empty_redis, 1),
            "Redis frozen": (self._freeze_redis, 2),
            DATABASE_RESTARTED: (self._restart_postgres, 1),
            DATABASE_KILLED: (self._kill_postgres, 1),
        }
        # By names of processes, in seconds since 1970.
        self._started_at: dict[str, float] = {}
        self.deeds: list[Deed] = []
        # What ended by itself.
        self.fallen: list[str] = []

    @property
    def counts(self) -> Counter[str]:
        """How often each fault was made."""
        return Counter(sorted(deed.name for deed in self.deeds))

    @property
    def left_out(self) -> set[str]:
        """The faults that were not made."""
        return set(self._means) - {deed.name for deed in self.deeds}

    def torment(self, goes_on: Callable[[], bool], pause: float) -> None:
        """Make faults with pauses of `pause` seconds on average before them; each kind at least once."""
        deck = self._deck()
        while goes_on() or self.left_out:
            time.sleep(self._random.uniform(0.5, 1.5) * pause)
            self.find_fallen()
            self._do(next(deck))

    def _deck(self) -> Iterator[str]:
        # What takes longest to mend comes first: else a short soak would last twice as long.
        first = [name for name in self._means if name != WORKER_KILLED]
        self._random.shuffle(first)
        yield from (WORKER_KILLED, *first)
        while True:
            cards = [name for name, (_, times) in self._means.items() for _ in range(times)]
            self._random.shuffle(cards)
            yield from cards

    def _do(self, name: str) -> None:
        began = datetime.now(UTC)
        node = self._means[name][0]()
        self.deeds.append(Deed(name, node, began, datetime.now(UTC)))
        print(f"  {began:%H:%M:%S} {name}{f': {node}' if node else ''}", flush=True)

    def find_fallen(self) -> None:
        """Note what has ended by itself, and start it again."""
        stack = self._platform.stack
        parts: list[Process | Server | None] = [stack.postgres, stack.redis, *stack.processes]
        for part in parts:
            if part and not part.running and (not isinstance(part, Process) or part.program.essential):
                self.fallen.append(f"{part.name} at {datetime.now(UTC):%H:%M:%S}")
                part.kill()
                self._start(part)

    def _start(self, part: Process | Server) -> None:
        self._started_at[part.name] = time.time()
        part.start()

    def _process(self, name: str) -> Process:
        return self._platform.stack.process(name)

    def _worker(self) -> str:
        """The name of a worker; one that runs a job, where there is one."""
        return self._random.choice(self._busy() or list(self._workers))

    def _busy(self) -> list[str]:
        """The names of the workers that have begun a job since they were started, and not yet ended it."""
        try:
            rows = self._platform.records.rows(
                """
                SELECT split_part(worker, '@', 1) AS node, max(started_at) AS at FROM jobs
                WHERE status = 'active' GROUP BY 1
                """
            )
        except psycopg2.OperationalError:
            # It was just killed itself.
            return []
        begun = {row["node"]: row["at"].timestamp() for row in rows}
        return [name for name, node in self._workers.items() if begun.get(node, 0) > self._started_at.get(name, 0)]

    def _kill(self, process: Process) -> None:
        process.kill()
        time.sleep(self._random.uniform(0, 1))
        self._start(process)

    def _kill_child(self) -> str:
        """Kill one process of a pool; not of a worker that is just starting, for Celery then gives up."""
        ends = time.monotonic() + BUSY_SECONDS
        while not (names := self._busy()) and time.monotonic() < ends:
            time.sleep(0.05)
        name = self._random.choice(names or list(self._workers))
        if children := self._process(name).descendants():
            self._random.choice(children).kill()
        return self._workers[name]

    def _kill_worker(self) -> str:
        name = self._worker()
        self._kill(self._process(name))
        return self._workers[name]

    def _stop_worker(self) -> str:
        name = self._worker()
        self._process(name).stop()
        self._start(self._process(name))
        return self._workers[name]

    def _redis(self) -> RedisServer:
        redis = self._platform.stack.redis
        assert redis
        return redis

    def _empty_redis(self) -> None:
        self._redis().kill()
        time.sleep(self._random.uniform(0, 1))
        self._redis().start()

    def _freeze_redis(self) -> None:
        self._redis().freeze()
        try:
            time.sleep(self._random.uniform(2, 3))
        finally:
            self._redis().thaw()

    def _postgres(self) -> PostgresServer:
        postgres = self._platform.stack.postgres
        assert postgres
        return postgres

    def _restart_postgres(self) -> None:
        self._postgres().stop()
        process = self._postgres().process
        if process and process.returncode:
            self.fallen.append(f"PostgreSQL, while it stopped:\n{process.log_tail()}")
        self._start_postgres()

    def _kill_postgres(self) -> None:
        self._postgres().kill()
        self._start_postgres()

    def _start_postgres(self) -> None:
        time.sleep(self._random.uniform(0, 1))
        self._postgres().start()
