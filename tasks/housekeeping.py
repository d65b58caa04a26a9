"""Beat's ticks. Each may come twice, late or never: two beats do no harm, a missed tick is made good by the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from sqlalchemy.exc import OperationalError

from service.jobs import lifecycle
from service.jobs.dependencies import BATCH, settle_ended
from service.notifications import expiry, snoozing, strays
from service.notifications.channel_messages import SEND_TASK, messages_are_due
from service.notifications.digests import messages_are_ripe, release_held
from service.operations.alerts import alert_to_failures, forget_old_alerts
from service.operations.partitions import prepare_partitions as make_partitions
from service.operations.retention import TICK_SECONDS
from service.operations.retention import prune as delete_old
from service.queue import BROKER_ERRORS, DISPATCH_TASK, celery_app, wake
from service.queues.dispatch import jobs_are_held
from service.queues.statistics import measure
from service.realtime import untold
from service.schedules.firing import run_due
from service.webhooks.backlog import free_stranded_backlogs
from service.webhooks.circuits import forget_old_circuits
from service.webhooks.outbox import deliveries_are_due
from service.workflows.actions import finish_ended_workflows
from tasks.application import flask_app
from tasks.delivery import deliver_webhooks

log = structlog.get_logger(__name__)


def tick(work: Callable[[], Any]) -> Any:
    """Make a function a tick: a task that needs the application and fails quietly while a server is away."""

    def run() -> None:
        with flask_app().app_context():
            try:
                work()
            except (OperationalError, *BROKER_ERRORS) as error:
                log.warning("tick_failed", tick=work.__name__, error=str(error).splitlines()[0])

    run.__doc__ = work.__doc__
    # Without events: in Flower several ticks a second would bury the jobs.
    return celery_app.task(name=f"tasks.housekeeping.{work.__name__}", ignore_result=True, send_events=False)(run)


@celery_app.task(name=f"{__name__}.attend", ignore_result=True, send_events=False)
def attend(*names: str) -> None:
    """Run these ticks, one after the other."""
    for name in names:
        try:
            celery_app.tasks[f"{__name__}.{name}"]()
        except Exception:
            # One that is broken must not take the others along.
            log.exception("tick_broken", tick=name)


@tick
def release_due() -> None:
    """Queue the scheduled and retrying jobs whose time has come."""
    while lifecycle.release_due() == lifecycle.BATCH:
        continue


@tick
def expire_due() -> None:
    """Fail the jobs that have waited for longer than they may."""
    while lifecycle.expire_due() == lifecycle.BATCH:
        continue


@tick
def run_schedules() -> None:
    """Submit the jobs of schedules whose time has come."""
    run_due()


@tick
def relay() -> None:
    """Send again the messages that the broker has lost."""
    lifecycle.relay()


@tick
def rescue() -> None:
    """Give the jobs of dead workers to living ones."""
    lifecycle.rescue()


@tick
def wake_dispatch() -> None:
    """Wake the dispatch of held jobs: limits that have room again, and what a lost wake-up left."""
    if jobs_are_held():
        wake(DISPATCH_TASK)


@tick
def settle() -> None:
    """Tell the jobs that depend on ended ones, where the process that ended them died before it did."""
    while settle_ended() == BATCH:
        continue


@tick
def finish_workflows() -> None:
    """Note the ends of workflows that nobody noted."""
    finish_ended_workflows()


@tick
def measure_queues() -> None:
    """Measure how much waits in each queue and how fast it goes."""
    measure()


@tick
def settle_untold() -> None:
    """Admit to users what was never told to them, because a process died before it did or Redis was away."""
    while untold.settle_untold() == untold.BATCH:
        continue


@tick
def wake_deliveries() -> None:
    """Wake the delivery tasks for rows that are due: retries, and what a lost wake-up left."""
    free_stranded_backlogs()
    if deliveries_are_due():
        wake(deliver_webhooks.name)
    if messages_are_due():
        wake(SEND_TASK)


@tick
def return_snoozed() -> None:
    """Have notifications back that were put off and whose time has come."""
    while snoozing.return_snoozed() == snoozing.BATCH:
        continue


@tick
def expire_notifications() -> None:
    """Delete the notifications that have expired."""
    while expiry.delete_expired() == expiry.BATCH:
        continue


@tick
def release_messages() -> None:
    """Release the messages whose quiet hours or digests are over; several of a user become one."""
    while messages_are_ripe() and release_held():
        continue


@tick
def end_stray_messages() -> None:
    """End the messages that nobody would send any more."""
    while strays.end_strays() == strays.BATCH:
        continue


@tick
def alert_failures() -> None:
    """Alert operators and owners to jobs that keep failing."""
    alert_to_failures()


@tick
def prepare_partitions() -> None:
    """Make the partitions of the months ahead."""
    make_partitions()


@tick
def prune() -> None:
    """Delete what is older than it is to be kept; what does not go in time is left to the next tick."""
    delete_old(TICK_SECONDS)
    forget_old_circuits()
    forget_old_alerts()
