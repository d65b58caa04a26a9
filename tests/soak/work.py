"""The kinds of work that a soak submits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.soak.customer import Customer

# Soon, so that many of them begin in the time of a short soak.
_SOON: dict[str, Any] = {"retryDelay": 0.3, "retryStrategy": "fixed"}
_FAILS_FOR_GOOD = {"steps": 2, "failAt": 2, "permanent": True}
_FAILED_FOR_GOOD: dict[str, Any] = {"status": "failed", "code": "demo_failure", "failures": 1}
_GROUPS = 4
_BATCH = 15


@dataclass(frozen=True)
class Work:
    """One kind: of how many submissions in a hundred, and of how many jobs each."""

    share: int
    jobs: int
    submit: Callable[[Customer], None]


def _steps(customer: Customer) -> dict[str, Any]:
    return {"steps": customer.random.randint(1, 4), "sleepMs": customer.random.choice([0, 0, 10, 30])}


def short(customer: Customer) -> None:
    """A job of some milliseconds."""
    customer.job("short", _steps(customer))


def long(customer: Customer) -> None:
    """A job of some seconds."""
    customer.job("long", {"steps": customer.random.randint(5, 15), "sleepMs": 200})


def fails_once(customer: Customer) -> None:
    """A job whose second attempt completes."""
    payload = {"steps": 3, "sleepMs": 10, "failAt": 2, "failAttempts": 1}
    customer.job("fails once", payload, _SOON, failures=1)


def fails_for_good(customer: Customer) -> None:
    """A job that must not be tried again."""
    customer.job("fails for good", _FAILS_FOR_GOOD, **_FAILED_FOR_GOOD)


def spends_its_attempts(customer: Customer) -> None:
    """A job that fails each time."""
    options = {**_SOON, "retryLimit": 1}
    customer.job(
        "spends its attempts", {"steps": 1, "failAt": 1}, options, status="failed", code="runtime_error", failures=2
    )


def run_again_by_hand(customer: Customer) -> None:
    """A dead letter that completes once somebody retries it."""
    payload = {"steps": 1, "failAt": 1, "failAttempts": 1}
    job_id = customer.job("run again by hand", payload, {"retryLimit": 0}, failures=1, again_by_hand=True)
    if job_id:
        customer.later(lambda: customer.run_again(job_id), 1.0)


def delayed(customer: Customer) -> None:
    """A job that waits for its time."""
    customer.job("delayed", _steps(customer), {"delay": round(customer.random.uniform(0.2, 4), 2)})


def unique(customer: Customer) -> None:
    """A job of which there is one at a time; those who come second are refused or sent to the first."""
    key = f"only {customer.random.randrange(_GROUPS)}"
    options = {"singletonKey": key, "unique": {"mode": customer.random.choice(["reject", "existing"])}}
    group = f"unique {customer.person.id} {key}"
    customer.job("unique", {"steps": 2, "sleepMs": 50}, options, may_stand_for=True, group=group)


def one_at_a_time(customer: Customer) -> None:
    """A job that does not run beside others with its key."""
    key = f"key {customer.random.randrange(_GROUPS)}"
    customer.job("one at a time", {"steps": 2, "sleepMs": 20}, {"concurrencyKey": key}, group=f"concurrency {key}")


def chain(customer: Customer) -> None:
    """Three jobs, one after the other; the last one also waits for its time."""
    first = customer.job("chain", _steps(customer))
    second = first and customer.job("chain", _steps(customer), {"dependsOn": [first]}, parents=(first,))
    if second:
        customer.job("chain", _steps(customer), {"dependsOn": [second], "delay": 1}, parents=(second,))


def orphans(customer: Customer) -> None:
    """A job that fails, and three that wait for it, each to take it in its own way."""
    parent = customer.job("orphans", _FAILS_FOR_GOOD, **_FAILED_FOR_GOOD)
    if not parent:
        return
    ends: dict[str, dict[str, Any]] = {
        "cancel": {"status": "cancelled"},
        "continue": {"status": "completed"},
        "fail": {"status": "failed", "code": "dependency_failed"},
    }
    for policy, end in ends.items():
        options = {"dependsOn": [{"jobId": parent, "onFailure": policy}]}
        customer.job("orphans", _steps(customer), options, parents=(parent,), **end)


def _diamond(customer: Customer) -> list[dict[str, Any]]:
    """Two steps between a first and a last one."""
    parents: dict[str, list[str]] = {"first": [], "left": ["first"], "right": ["first"], "last": ["left", "right"]}
    return [
        {"ref": ref, "type": "demo-steps", "payload": _steps(customer), "dependsOn": waits_for}
        for ref, waits_for in parents.items()
    ]


def workflow(customer: Customer) -> None:
    """A workflow whose steps all complete."""
    customer.workflow("workflow", _diamond(customer), "completed")


def failing_workflow(customer: Customer) -> None:
    """A workflow with a step that fails, for which the last one is cancelled."""
    steps = _diamond(customer)
    steps[1]["payload"] = _FAILS_FOR_GOOD
    customer.workflow("failing workflow", steps, "failed", left=_FAILED_FOR_GOOD, last={"status": "cancelled"})


def batch(customer: Customer) -> None:
    """Jobs that are accepted together."""
    customer.batch("batch", [_steps(customer) for _ in range(_BATCH)])


def cancelled_running(customer: Customer) -> None:
    """A job that would run for minutes, if nobody cancelled it soon."""
    job_id = customer.job("cancelled running", {"steps": 1000, "sleepMs": 200}, status="cancelled")
    if job_id:
        customer.later(lambda: customer.cancel(job_id), customer.random.uniform(0.1, 2))


def cancelled_waiting(customer: Customer) -> None:
    """A job that is cancelled before its time has come."""
    job_id = customer.job("cancelled waiting", {"steps": 1}, {"delay": 600}, status="cancelled")
    if job_id:
        customer.later(lambda: customer.cancel(job_id), customer.random.uniform(0, 2))


ALL = (
    Work(38, 1, short),
    Work(8, 1, long),
    Work(9, 1, fails_once),
    Work(5, 1, fails_for_good),
    Work(4, 1, spends_its_attempts),
    Work(4, 1, run_again_by_hand),
    Work(6, 1, delayed),
    Work(7, 1, unique),
    Work(5, 1, one_at_a_time),
    Work(2, 3, chain),
    Work(2, 4, orphans),
    Work(2, 4, workflow),
    Work(1, 4, failing_workflow),
    Work(3, _BATCH, batch),
    Work(2, 1, cancelled_running),
    Work(2, 1, cancelled_waiting),
)
