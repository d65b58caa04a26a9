"""What a report says, and coalescing: few reports leave, the last one always."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from math import inf, nan
from typing import Any

import pytest

from tasks.progress import REPORTS_A_SECOND, Reporter, report_of


def test_a_short_job_tells_its_last_progress_only() -> None:
    sent: list[dict[str, Any]] = []
    reporter = Reporter(lambda report, _is_last: sent.append(report))
    for number in range(1000):
        reporter.report({"current": number})
    assert sent == []
    reporter.close()
    assert sent == [{"current": 999}]
    reporter.close()
    assert len(sent) == 1


def test_what_was_held_back_leaves_after_its_interval() -> None:
    sent: list[dict[str, Any]] = []
    reporter = Reporter(lambda report, _is_last: sent.append(report))
    reporter.report({"current": 1})
    reporter.report({"current": 2})
    reporter.flush_due()
    assert sent == []
    ends = time.monotonic() + 5
    while not sent and time.monotonic() < ends:
        reporter.flush_due()
    assert sent == [{"current": 2}]


def test_stages_are_each_told_up_to_ten_a_second() -> None:
    sent: list[dict[str, Any]] = []
    reporter = Reporter(lambda report, _is_last: sent.append(report))
    for number in range(REPORTS_A_SECOND + 5):
        reporter.report_stage({"current": number})
    assert [report["current"] for report in sent] == list(range(REPORTS_A_SECOND - 1)), "the start counts as one"
    reporter.close()
    assert sent[-1] == {"current": REPORTS_A_SECOND + 4}


def test_a_stage_supersedes_the_progress_before_it() -> None:
    sent: list[dict[str, Any]] = []
    reporter = Reporter(lambda report, _is_last: sent.append(report))
    reporter.report({"current": 1})
    reporter.report_stage({"current": 2})
    reporter.close()
    assert sent == [{"current": 2}]


def test_a_report_that_cannot_be_sent_does_not_fail_the_job() -> None:
    def refuse(_report: dict[str, Any], _is_last: bool) -> None:
        raise ConnectionError("away")

    reporter = Reporter(refuse)
    reporter.report({"current": 1})
    reporter.close()


class Whole:
    """A whole number of another library."""

    def __index__(self) -> int:
        return 3


@pytest.mark.parametrize(
    ("current", "total", "told"),
    [
        (Decimal("1.5"), Decimal(6), (1.5, 6.0, 25)),
        (Whole(), Whole(), (3, 3, 100)),
        (3, inf, (3, 0.0, 0)),
        (nan, 10, (0.0, 10, 0)),
    ],
)
def test_any_number_is_told_as_json_has_it(current: Any, total: Any, told: tuple[float, float, float]) -> None:
    report = json.loads(json.dumps(report_of(current, total, None, None, 1.0), allow_nan=False))
    assert (report["current"], report["total"], report["percentage"]) == told
