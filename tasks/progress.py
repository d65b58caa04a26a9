"""Progress, coalesced: at most ten reports a second leave a job, and the last value always does."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import structlog

log = structlog.get_logger(__name__)

# Contract, "Numbered events": at most 10 a second per job.
REPORTS_A_SECOND = 10
INTERVAL_SECONDS = 1 / REPORTS_A_SECOND

Report = dict[str, Any]


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
        except Exception:
            # A report that cannot be sent must not fail the job.
            log.warning("progress_not_sent", exc_info=True)
