"""Progress, coalesced: at most ten reports a second leave a job, and the last value always does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import structlog

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 0.1

Report = dict[str, Any]


class Reporter:
    """Sends the first report at once and then the newest one each interval; `close` sends what is left."""

    def __init__(self, send: Callable[[Report], None]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._pending: Report | None = None
        self._sent_at = 0.0
        self._timer: threading.Timer | None = None

    def report(self, report: Report) -> None:
        """Send this report now, or a newer one within the interval."""
        with self._lock:
            wait = self._sent_at + INTERVAL_SECONDS - time.monotonic()
            if wait <= 0:
                self._pending = None
                self._send_now(report)
                return
            self._pending = report
            if self._timer is None:
                self._timer = threading.Timer(wait, self._flush)
                self._timer.daemon = True
                self._timer.start()

    def close(self) -> None:
        """Send what waits; nothing leaves after this."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._pending is not None:
                report, self._pending = self._pending, None
                self._send_now(report)

    def _flush(self) -> None:
        with self._lock:
            self._timer = None
            if self._pending is not None:
                report, self._pending = self._pending, None
                self._send_now(report)

    def _send_now(self, report: Report) -> None:
        self._sent_at = time.monotonic()
        try:
            self._send(report)
        except Exception:
            # A report that cannot be sent must not fail the job.
            log.warning("progress_not_sent", exc_info=True)
