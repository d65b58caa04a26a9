"""Coalescing: few reports leave, the last one always."""

from __future__ import annotations

import time
from typing import Any

from tasks.progress import REPORTS_A_SECOND, Reporter


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
