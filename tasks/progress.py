"""Progress, coalesced: at most ten reports a second leave a job, and the last value always does."""

from __future__ import annotations

import operator
import threading
import time
from collections import deque
from collections.abc import Callable
from math import isfinite
from typing import Any

import structlog

from service.text import storable

log = structlog.get_logger(__name__)

# Contract, "Numbered events": at most 10 a second per job.
REPORTS_A_SECOND = 10
INTERVAL_SECONDS = 1 / REPORTS_A_SECOND

Report = dict[str, Any]


def report_of(current: float, total: float, message: str | None, detail: str | None, elapsed: float) -> Report:
    """Progress as the contract writes it, after `elapsed` seconds; what is left is judged by the rate so far."""
    current, total = _plain(current), _plain(total)
    share = min(max(current / total, 0.0), 1.0) if total > 0 else 0.0
    percentage = round(share * 100, 1)
    whole = int(percentage)
    report: Report = {
        "current": current,
        "total": total,
        "percentage": whole if whole == percentage else percentage,
    }
    if message is not None:
        report["message"] = storable(message)
    if detail is not None:
        report["detail"] = storable(detail)
    if 0 < share < 1:
        report["etaSeconds"] = round(elapsed / share - elapsed, 1)
    return report


def _plain(number: Any) -> float:
    """A number as JSON has it, whichever library it comes from; 0 for what has no end or is none."""
    try:
        return operator.index(number)
    except TypeError:
        value = float(number)
        return value if isfinite(value) else 0.0


class Reporter:
    """Sends the newest report each interval, the first one an interval after the start, which was told itself.

    Somebody must call `flush_due` while the job runs, and `close` when it ends. `send` is told whether a report is the
    last one.
    """

    def __init__(self, send: Callable[[Report, bool], None]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._pending: Report | None = None
        self._sent: deque[float] = deque([float("-inf")] * REPORTS_A_SECOND, REPORTS_A_SECOND)
        self._sent.append(time.monotonic())

    def report(self, report: Report) -> None:
        """Send this report, now or within the interval, unless a newer one comes first."""
        with self._lock:
            if self._sent[-1] + INTERVAL_SECONDS <= time.monotonic():
                self._send_now(report)
            else:
                self._pending = report

    def report_stage(self, report: Report) -> None:
        """Send this report now: stages are few and each is told, unless there are more than ten a second."""
        with self._lock:
            if self._sent[0] + 1.0 <= time.monotonic():
                self._send_now(report)
            else:
                self._pending = report

    def flush_due(self) -> None:
        """Send what has waited for its interval, unless a report is on its way just now."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._pending is not None and self._sent[-1] + INTERVAL_SECONDS <= time.monotonic():
                self._send_now(self._pending)
        finally:
            self._lock.release()

    def close(self) -> None:
        """Send what waits, whatever the interval."""
        with self._lock:
            if self._pending is not None:
                self._send_now(self._pending, is_last=True)

    def _send_now(self, report: Report, *, is_last: bool = False) -> None:
        self._pending = None
        self._sent.append(time.monotonic())
        try:
            self._send(report, is_last)
        except Exception as error:
            # A report that cannot be sent must not fail the job. Without the traceback: it would go on with what the
            # body may be dealing with just now, which is not for the log where the job is sensitive.
            log.warning("progress_not_sent", error=f"{type(error).__name__}: {error}")
