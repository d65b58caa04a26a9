"""The delivery of webhooks: how many a second, and whether endpoints that hang or fail are in the way of the others."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from bench.children import Child, Message
from bench.cpu import Meter, Usage
from bench.delivery_log import DAYS, DeliveryLog
from bench.platform import Platform
from bench.reading import Reader, Reading
from service.ids import first_id_at

# What a throughput round has to deliver to: one endpoint, and this many.
MANY = 20
WARM_UP_DELIVERIES = 300
# Of the other measurement: endpoints that are well, of each of those that are not, and events a second for each.
WELL, HANGING, BROKEN = 10, 5, 5
EVENTS_A_SECOND = 5.0
WARM_UP_SECONDS = 2.0
# What comes after the last delivery, autovacuum among it, is no part of reading.
SETTLE_SECONDS = 2.0
# An answer that has not come by then does not come: longer than a lease.
MARGIN_SECONDS = 40.0
# What to expect of a machine of two cores: deliveries a second, and seconds of the start, of what surrounds a round,
# of reading, and of a million rows of the log.
RATE, START_SECONDS, ROUND_SECONDS, READ_SECONDS, MILLION_SECONDS = 200.0, 20.0, 3.0, 15.0, 75.0


@dataclass(frozen=True)
class Throughput:
    """Deliveries that were all due when the delivery task was woken."""

    # Among which they are spread evenly.
    endpoints: int
    # Deliveries of old in the log.
    rows: int
    deliveries: int
    # By SQL, and those that came to the receiver once more.
    delivered: int
    again: int
    # From the wake to the last one that stands in SQL as delivered.
    seconds: float
    usage: Usage

    @property
    def rate(self) -> float:
        """Deliveries a second."""
        return self.delivered / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Phase:
    """What the endpoints that are well were sent, from the commit that plans it to its arrival."""

    planned: int
    # Sorted.
    milliseconds: list[float]


@dataclass(frozen=True)
class Unwell:
    """What became of the endpoints that hang, or of those that are broken."""

    planned: int
    # Requests that each of them got, and the state of its circuit in the end.
    posts: list[int]
    circuits: list[str]


@dataclass(frozen=True)
class Isolation:
    """The same for endpoints that are well: alone, and beside as many that are not."""

    rows: int
    seconds: float
    alone: Phase
    beside: Phase
    hanging: Unwell
    broken: Unwell


@dataclass
class Webhooks:
    """Everything found, as far as the time sufficed."""

    throughput: list[Throughput] = field(default_factory=list)
    # Seconds it took to write the log.
    log_seconds: float = 0.0
    readings: list[Reading] = field(default_factory=list)
    isolation: Isolation | None = None


def expected_seconds(deliveries: int, rows: int, seconds: float) -> float:
    """How long it all takes, from the platform's start."""
    at_each_size = 2 * (ROUND_SECONDS + deliveries / RATE)
    with_rows = at_each_size + READ_SECONDS + rows / 1_000_000 * MILLION_SECONDS
    return START_SECONDS + at_each_size + (with_rows if rows else 0.0) + _isolation_seconds(seconds)


def _isolation_seconds(seconds: float) -> float:
    return WARM_UP_SECONDS + 2 * (seconds + ROUND_SECONDS)


class WebhooksBench:
    """Endpoints of a platform, and who plans deliveries to them; a `with` block leaves neither process behind."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._receiver = stack.enter_context(Child("endpoints", ports=max(MANY, WELL + HANGING + BROKEN)))
            self._planner = stack.enter_context(Child("planner", self.platform.stack.environment))
            self._slow = self._make([f"/slow/{number}" for number in range(MANY)])
            self._log = DeliveryLog(self.platform.stack.database_url, [endpoint["id"] for endpoint in self._slow])
            # Deliveries a second, to begin with, where there are least.
            warm = [self.deliver(WARM_UP_DELIVERIES, endpoints, MARGIN_SECONDS) for endpoints in (MANY, 1)]
            self.rate = min(each.rate for each in warm)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def rows(self) -> int:
        """Deliveries of old in the log."""
        return self._log.rows

    def write_log(self, rows: int, timeout: float) -> float:
        """Have so many deliveries of old in the log, or what the time allows; the seconds that it took."""
        return self._log.grow(rows, timeout)

    def deliver(
        self, count: int, endpoints: int, timeout: float, meanwhile: Callable[[], None] = lambda: None
    ) -> Throughput:
        """Plan so many deliveries to endpoints that answer after 50 ms, and have them delivered."""
        chosen = self._slow[:endpoints]
        self._receiver.ask({"forget": True}, MARGIN_SECONDS)
        self._plan("plan", users=[endpoint["user"] for endpoint in chosen], count=count)
        with Meter(self._groups).measure() as usage:
            meanwhile()
            woken = self._plan("wake")["woken"]
            arrived = self._receiver.ask({"expect": count, "timeout": timeout}, timeout + MARGIN_SECONDS)
            ids = [endpoint["id"] for endpoint in chosen]
            settled = self._plan("settle", webhooks=ids, count=count, timeout=MARGIN_SECONDS / 2)
        seconds = settled["at"] - woken
        return Throughput(endpoints, self.rows, count, settled["delivered"], arrived["again"], seconds, usage)

    def read(self) -> list[Reading]:
        """Time the pages of the log of the endpoint that has the most of it."""
        time.sleep(SETTLE_SECONDS)
        largest = self._slow[0]
        reader = Reader(self.platform, largest["token"])
        deep = first_id_at(datetime.now(UTC) - timedelta(days=DAYS - 5))
        pages = (
            ("first page", ""),
            (f"after a cursor {DAYS - 5} days back", f"&cursor={deep}"),
            ("`status`: failed, one in 100", "&status=failed"),
            ("`code`: 500, one in 125", "&code=500"),
            ("`code`: 503, one in 10,000", "&code=503"),
            ("`eventType`: failed, one in 25", "&eventType=failed"),
            ("`eventType`: cancelled, one in 10,000", "&eventType=cancelled"),
        )
        path = f"/api/webhooks/{largest['id']}/deliveries?limit=20"
        return [reader.time(what, path + arguments, has_bar=False) for what, arguments in pages]

    def isolate(self, seconds: float) -> Isolation:
        """Send events to endpoints that are well, for so long alone and for so long beside others that are not."""
        well = self._make([f"/well/{number}" for number in range(WELL)])
        hanging = self._make([f"/hang/{number}" for number in range(HANGING)], WELL)
        broken = self._make([f"/broken/{number}" for number in range(BROKEN)], WELL + HANGING)
        self._send(well, [], WARM_UP_SECONDS)
        alone, _, _ = self._send(well, [], seconds)
        beside, planned, posts = self._send(well, [*hanging, *broken], seconds)

        def unwell(endpoints: Sequence[Message], kind: str) -> Unwell:
            ids = [endpoint["id"] for endpoint in endpoints]
            return Unwell(
                sum(planned[endpoint["user"]] for endpoint in endpoints),
                [posts.get(f"/{kind}/{number}", 0) for number in range(len(endpoints))],
                self._plan("circuits", webhooks=ids)["states"],
            )

        return Isolation(self.rows, seconds, alone, beside, unwell(hanging, "hang"), unwell(broken, "broken"))

    def _send(
        self, well: Sequence[Message], unwell: Sequence[Message], seconds: float
    ) -> tuple[Phase, Counter[str], dict[str, int]]:
        """Plan at a fixed rate; what came of it where all is well, how much was planned, and requests by path."""
        self._receiver.ask({"forget": True}, MARGIN_SECONDS)
        # The first of each, then the second of each: as jobs of many users end.
        users = [endpoint["user"] for endpoint in (*well, *unwell)]
        answer = self._plan("pace", users=users, rate=EVENTS_A_SECOND, seconds=seconds, patience=seconds)
        planned = answer["planned"]
        moments = {delivery: at for endpoint in well for delivery, at in planned[endpoint["user"]].items()}
        arrived = self._receiver.ask({"expect": len(moments), "timeout": MARGIN_SECONDS / 2}, MARGIN_SECONDS)
        delays = [(at - moments[each]) * 1000 for each, at in arrived["times"].items() if each in moments]
        counts = Counter({user: len(deliveries) for user, deliveries in planned.items()})
        return Phase(len(moments), sorted(delays)), counts, arrived.get("posts", {})

    def _make(self, paths: Sequence[str], first_port: int = 0) -> list[Message]:
        """Endpoints at these paths, each of a user and on a port of its own."""
        ports = self._receiver.hello["ports"][first_port:]
        urls = [f"http://127.0.0.1:{port}{path}" for port, path in zip(ports, paths, strict=False)]
        endpoints: list[Message] = self._plan("make", urls=urls)["endpoints"]
        return endpoints

    def _plan(self, do: str, patience: float = 0.0, **arguments: Any) -> Message:
        return self._planner.ask({"do": do, **arguments}, patience + MARGIN_SECONDS)

    @property
    def _groups(self) -> dict[str, Any]:
        groups = self.platform.groups
        ours = {name: groups[name] for name in ("delivery", "PostgreSQL", "Redis", "beat")}
        return {**ours, "bench: endpoints": (self._receiver.pid, "itself")}
