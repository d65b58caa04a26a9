"""The three measurements of Carillon: the worker side alone, everything at saturation, latency at a fixed rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.children import Message
from bench.clients import Clients
from bench.cpu import Meter, Usage
from bench.platform import Platform, WorkerSide


@dataclass(frozen=True)
class Submission:
    """How fast the web process took jobs."""

    accepted: int
    refused: int
    seconds: float
    # From each request to its 202, sorted; as many at once as there are connections.
    milliseconds: list[float]

    @property
    def rate(self) -> float:
        """Jobs accepted a second."""
        return self.accepted / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Heard:
    """What came to a client: how many of the jobs, how many a second time, and when the last came."""

    jobs: int
    again: int
    # Seconds from the first request.
    last: float


@dataclass(frozen=True)
class WorkerRound:
    """Jobs that were queued before the worker started."""

    jobs: int
    submission: Submission
    side: WorkerSide
    socket: Heard
    webhook: Heard
    usage: Usage

    @property
    def rate(self) -> float:
        """Jobs a second from the first start to the last end."""
        return self.side.completed / self.side.seconds if self.side.seconds else 0.0


@dataclass(frozen=True)
class SaturationRound:
    """Jobs submitted as fast as they are taken, all processes at work."""

    jobs: int
    submission: Submission
    side: WorkerSide
    socket: Heard
    webhook: Heard
    holes: int
    events: dict[str, int]
    usage: Usage

    @property
    def seconds(self) -> float:
        """From the first request to the last event and the last webhook."""
        return max(self.socket.last, self.webhook.last)

    @property
    def rate(self) -> float:
        """Jobs a second that were heard of everywhere."""
        return min(self.socket.jobs, self.webhook.jobs) / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class LatencyRound:
    """Milliseconds of each job from its 202, and from its request, to the socket and the webhook."""

    rate: int
    jobs: int
    socket: list[float]
    webhook: list[float]
    socket_from_request: list[float]
    webhook_from_request: list[float]
    answer: list[float]
    # By how many milliseconds the load missed its rhythm at worst.
    latest: float
    usage: Usage


def run_worker_side(platform: Platform, clients: Clients, jobs: int, timeout: float) -> WorkerRound:
    """Queue jobs without a worker, start it, and wait until every job has been heard of."""
    clients.forget()
    platform.stop_worker()
    sent = clients.submit(jobs, timeout)
    platform.start_worker()
    # Its start is not what is compared; for bare Celery it is left out alike.
    platform.wait_for_first_job(timeout)
    with Meter({**platform.groups, **clients.groups}).measure() as usage:
        socket, webhook = clients.arrivals(len(sent["jobs"]), timeout)
    return WorkerRound(
        jobs,
        _submission(sent),
        _side(platform, sent),
        _heard(socket, sent),
        _heard(webhook, sent),
        usage,
    )


def run_saturation(
    platform: Platform, clients: Clients, jobs: int, timeout: float, meanwhile: Callable[[], None] = lambda: None
) -> SaturationRound:
    """Submit jobs as fast as they are taken and wait until every job has been heard of."""
    clients.forget()
    meanwhile()
    with Meter({**platform.groups, **clients.groups}).measure() as usage:
        sent = clients.submit(jobs, timeout)
        socket, webhook = clients.arrivals(len(sent["jobs"]), timeout)
    return SaturationRound(
        jobs,
        _submission(sent),
        _side(platform, sent),
        _heard(socket, sent),
        _heard(webhook, sent),
        socket.get("holes", 0),
        socket.get("events", {}),
        usage,
    )


def run_latency(platform: Platform, clients: Clients, rate: int, seconds: int) -> LatencyRound:
    """Submit jobs at a rate that leaves time to breathe, and see how long each takes to be heard of."""
    clients.forget()
    with Meter({**platform.groups, **clients.groups}).measure() as usage:
        sent = clients.submit(rate * seconds, seconds + 10, rate)
        socket, webhook = clients.arrivals(len(sent["jobs"]), 10)
    jobs = sent["jobs"]

    def since(times: dict[str, float], moment: int) -> list[float]:
        return sorted((at - jobs[job][moment]) * 1000 for job, at in times.items() if job in jobs)

    return LatencyRound(
        rate,
        len(jobs),
        since(socket["times"], 1),
        since(webhook["times"], 1),
        since(socket["times"], 0),
        since(webhook["times"], 0),
        sorted((accepted - asked) * 1000 for asked, accepted in jobs.values()),
        sent["latest"] * 1000,
        usage,
    )


def _submission(sent: Message) -> Submission:
    accepted = len(sent["jobs"])
    milliseconds = sorted((read - asked) * 1000 for asked, read in sent["jobs"].values())
    return Submission(accepted, sum(sent["statuses"].values()) - accepted, sent["seconds"], milliseconds)


def _heard(arrived: Message, sent: Message) -> Heard:
    times = {job: at for job, at in arrived["times"].items() if job in sent["jobs"]}
    return Heard(len(times), arrived["again"], max(times.values(), default=sent["began"]) - sent["began"])


def _side(platform: Platform, sent: Message) -> WorkerSide:
    ids = sorted(sent["jobs"])
    return platform.worker_side(ids[0], ids[-1]) if ids else WorkerSide(0, 0.0, 0, 0)
