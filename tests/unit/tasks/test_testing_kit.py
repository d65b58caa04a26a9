"""The kit for people who write job types: it must tell the truth about what the platform would do."""

from __future__ import annotations

import hashlib
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from marshmallow import fields, validate

from service.clock import utcnow
from service.errors import ValidationFailed
from service.ids import new_id
from service.jobs import registry
from service.jobs.dependencies import Parent
from service.jobs.errors import PermanentError, RetryLater, UnknownJobType, WorkerStopping
from service.jobs.registry import Body, job_type
from tasks import load_job_types
from tasks.context import JobContext
from tasks.jobs.demo.steps import demo_steps
from tasks.outcome import MAXIMUM_DEPTH
from tasks.testing import RecordingContext, frozen_time, run_job, run_until_done

Declare = Callable[..., Body]


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Iterator[Declare]:
    """Declares job types that are forgotten after the test: `declare(body, payload={…}, retry_limit=1, …)`."""
    load_job_types()
    monkeypatch.setattr(registry, "_types", dict(registry._types))

    def declare(body: Body, payload: Any = None, **options: Any) -> Body:
        return job_type(f"kit-{new_id()}", title="Kit", payload=payload or {}, **options)(body)

    yield declare


def public(cls: type) -> dict[str, Any]:
    """What a class offers: properties, and methods with their signatures."""
    return {
        name: inspect.signature(member) if inspect.isfunction(member) else type(member)
        for name, member in vars(cls).items()
        if not name.startswith("_")
    }


def test_the_recording_context_can_do_what_the_real_one_can() -> None:
    assert public(RecordingContext) == public(JobContext)


def test_a_type_is_found_by_name_and_by_function() -> None:
    by_name = run_job("demo-steps", {"steps": 2})
    by_function = run_job(demo_steps, {"steps": 2})
    assert by_name.job_type == by_function.job_type == "demo-steps"
    by_name.assert_completed()
    assert by_name.result == by_function.result == {"steps": 2, "attempt": 1}
    with pytest.raises(UnknownJobType):
        run_job("no-such-type")
    with pytest.raises(TypeError, match="public is no job type"):
        run_job(public)


def test_a_payload_is_refused_with_the_messages_of_the_api() -> None:
    with pytest.raises(ValidationFailed) as refused:
        run_job("demo-steps", {"steps": 0, "sleep_ms": 1})
    assert refused.value.errors == {
        "payload.steps": ["Must be greater than or equal to 1 and less than or equal to 10000."],
        "payload.sleep_ms": ["Unknown field."],
    }
    assert "payload.sleep_ms: Unknown field." in refused.value.__notes__, "the report of a test shows them too"


def test_a_payload_that_is_no_json_is_refused(declare: Declare) -> None:
    body = declare(lambda _ctx, at: at, {"at": fields.Raw(required=True)})
    with pytest.raises(TypeError, match="datetime"):
        run_job(body, {"at": datetime(2026, 3, 1, tzinfo=UTC)})


def test_the_body_gets_what_the_schema_makes_of_the_payload(declare: Declare) -> None:
    seen: dict[str, Any] = {}
    body = declare(
        lambda _ctx, **payload: seen.update(payload),
        {
            "library_id": fields.UUID(data_key="libraryId", required=True),
            "mode": fields.String(load_default="all", validate=validate.OneOf(["all", "new"])),
        },
    )
    run_job(body, {"libraryId": "01890000-0000-7000-8000-000000000000"}).assert_completed()
    assert seen == {"library_id": UUID("01890000-0000-7000-8000-000000000000"), "mode": "all"}


def test_everything_that_a_body_tells_is_kept(declare: Declare) -> None:
    def work(ctx: JobContext) -> None:
        ctx.stage(1, 2, "Reading")
        for _ in ctx.track(["a", "b"], "Counting"):
            ctx.log("one\x00more")
        ctx.stage(2, 2, "Writing", "all of it")
        ctx.log("careful", "warning")

    run = run_job(declare(work))
    run.assert_completed()
    assert [(each["percentage"], each["message"]) for each in run.progress] == [
        (50, "Reading"),
        (50, "Counting"),
        (100, "Counting"),
        (100, "Writing"),
    ]
    assert run.last_progress == {
        "current": 2,
        "total": 2,
        "percentage": 100,
        "message": "Writing",
        "detail": "all of it",
    }
    assert run.stages == ["Reading", "Writing"]
    assert run.logs == [("info", "one\ufffdmore"), ("info", "one\ufffdmore"), ("warning", "careful")]
    run.assert_progress_grows()


def test_artifacts_are_kept_in_memory(declare: Declare, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b")

    def work(ctx: JobContext) -> dict[str, Any]:
        ctx.artifact("notes.txt", "first")
        ctx.artifact("notes.txt", "second")
        left = ctx.artifact("table.csv", tmp_path / "table.csv")
        return {"size": left.size, "sha256": left.sha256}

    run = run_job(declare(work))
    assert run.result == {"size": 3, "sha256": hashlib.sha256(b"a,b").hexdigest()}
    assert run.artifacts["notes.txt"].text == "second", "a name stands for one file"
    assert run.artifacts["table.csv"].content_type == "text/csv"
    run_job(declare(lambda ctx: ctx.artifact("", b""))).assert_failed("invalid_artifact")


def test_owner_attempt_and_parents_are_what_the_test_says(declare: Declare) -> None:
    body = declare(
        lambda ctx: [str(ctx.user_id), str(ctx.organization_id), ctx.attempt, ctx.parents()["fetch"].result["rows"]]
    )
    user_id, organization_id = new_id(), new_id()
    run = run_job(
        body, user_id=user_id, organization_id=organization_id, attempt=2, parents={"fetch": {"rows": (1, 2)}}
    )
    assert run.result == [str(user_id), str(organization_id), 2, [1, 2]]
    failed = Parent(new_id(), "failed", None, {"code": "gone", "message": "Gone", "retryable": False})
    status = declare(lambda ctx: ctx.parents()["fetch"].status)
    assert run_job(status, parents={"fetch": failed}).result == "failed"


def test_a_result_is_what_json_makes_of_it(declare: Declare) -> None:
    assert run_job(declare(lambda _ctx: {1: ("a", "b")})).result == {"1": ["a", "b"]}


def nested(levels: int) -> list[Any]:
    """Lists in lists."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "result",
    [
        {"at": utcnow()},
        {"text": "nul \x00"},
        float("nan"),
        {"half": "\ud800"},
        nested(MAXIMUM_DEPTH + 1),
        nested(20_000),
    ],
    ids=["time", "nul", "nan", "half", "deep", "very-deep"],
)
def test_a_result_that_cannot_be_stored_fails_the_job_for_good(declare: Declare, result: Any) -> None:
    run_job(declare(lambda _ctx: result)).assert_failed("invalid_result")


def test_a_result_may_be_nested_deeply(declare: Declare) -> None:
    assert run_job(declare(lambda _ctx: nested(MAXIMUM_DEPTH))).result == nested(MAXIMUM_DEPTH)


def raising(error: BaseException) -> Body:
    """A body that raises."""

    def body(_ctx: JobContext) -> None:
        raise error

    return body


def test_an_error_is_described_as_the_platform_does(declare: Declare) -> None:
    run = run_job(declare(raising(FileNotFoundError("no such picture")), retry_delay=7.0))
    assert (run.status, run.retry_in) == ("retrying", 7)
    assert run.error == {"code": "file_not_found_error", "message": "no such picture", "retryable": True}
    assert isinstance(run.exception, FileNotFoundError)
    run_job(declare(raising(KeyError("x")), permanent=(LookupError,))).assert_failed("key_error")
    permanent = run_job(declare(raising(PermanentError("is no picture", code="bad_picture"))))
    permanent.assert_failed("bad_picture")
    assert permanent.error == {"code": "bad_picture", "message": "is no picture", "retryable": False}


def test_a_job_says_itself_when_it_wants_to_be_tried_again(declare: Declare) -> None:
    run = run_job(declare(raising(RetryLater(90, "the site is busy"))))
    run.assert_retrying("retry_later")
    assert run.retry_in == 90


@pytest.mark.parametrize(
    ("strategy", "delays"), [("exponential", [10, 20, 40]), ("linear", [10, 20, 30]), ("fixed", [10, 10, 10])]
)
def test_attempts_follow_the_retry_policy(declare: Declare, strategy: str, delays: list[float]) -> None:
    body = declare(raising(RuntimeError("no")), retry_limit=3, retry_delay=10.0, retry_strategy=strategy)
    runs = run_until_done(body)
    assert [run.retry_in for run in runs] == [*delays, None]
    assert [run.status for run in runs] == ["retrying"] * 3 + ["failed"]
    assert [run.attempt for run in runs] == [1, 2, 3, 4]
    assert len({run.job_id for run in runs}) == 1, "with the attempt it makes the key of effects that happen once"


def test_time_passes_between_attempts_only_where_it_is_frozen(declare: Declare) -> None:
    began: list[datetime] = []

    def work(_ctx: JobContext) -> int:
        began.append(utcnow())
        if len(began) < 3:
            raise RuntimeError("not yet")
        return len(began)

    body = declare(work, retry_delay=60.0)
    with frozen_time("2026-03-01T12:00:00Z") as clock:
        runs = run_until_done(body)
        assert clock.now() == datetime(2026, 3, 1, 12, 3, tzinfo=UTC)
    assert [moment.isoformat()[11:19] for moment in began] == ["12:00:00", "12:01:00", "12:03:00"]
    assert runs[-1].result == 3
    assert utcnow().year != 1999
    assert abs((utcnow() - datetime.now(UTC)).total_seconds()) < 1, "time runs again"


def test_sleep_waits_for_nothing_and_moves_a_frozen_clock(declare: Declare) -> None:
    def work(ctx: JobContext) -> str:
        ctx.sleep(3600)
        ctx.progress(1, 4)
        return utcnow().isoformat()

    with frozen_time("2026-03-01T12:00:00Z"):
        run = run_job(declare(work))
    assert run.result == "2026-03-01T13:00:00+00:00"
    assert run.slept == 3600
    assert run.last_progress is not None
    assert run.last_progress["etaSeconds"] == 10_800


def test_a_clock_is_moved_by_hand() -> None:
    with frozen_time("2026-03-01T12:00:00+01:00") as clock:
        assert utcnow() == clock.now() == datetime(2026, 3, 1, 11, tzinfo=UTC)
        clock.move(1.5)
        assert utcnow().second == 1
        clock.move_to("2027-01-01T00:00:00Z")
        assert utcnow().year == 2027
    with pytest.raises(ValueError, match="has no zone"), frozen_time("2026-03-01T12:00:00"):
        pass


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "time_machine", None)
    with pytest.raises(RuntimeError, match=r"pip install 'carillon\[testing\]'"), frozen_time():
        pass


def test_a_cancel_is_noticed_at_the_next_call_of_the_context() -> None:
    run = run_job("demo-steps", {"steps": 10}, cancel_after=3)
    run.assert_cancelled()
    assert len(run.progress) == 3
    waiting = run_job("demo-steps", {"steps": 10, "sleepMs": 60_000}, cancel_when=lambda ctx: ctx.slept >= 120)
    waiting.assert_cancelled()
    assert len(waiting.progress) == 1


def test_a_body_that_never_asks_is_not_stopped_by_a_cancel(declare: Declare) -> None:
    run_job(declare(lambda _ctx: "done"), cancel_after=0).assert_completed()


def test_a_job_that_fails_while_it_is_cancelled_ends_as_cancelled(declare: Declare) -> None:
    run = run_job(declare(raising(OSError("the pipe broke"))), cancel_after=0)
    run.assert_cancelled()
    assert run.retry_in is None
    assert run.error is not None


def test_callbacks_of_a_cancel_are_called_once(declare: Declare) -> None:
    calls: list[str] = []

    def work(ctx: JobContext) -> None:
        ctx.on_cancel(lambda: calls.append("early"))
        ctx.progress(1, 2)
        ctx.on_cancel(lambda: calls.append("late"))
        ctx.progress(2, 2)

    run_job(declare(work), cancel_after=1).assert_cancelled()
    assert calls == ["early", "late"]
    calls.clear()
    run_job(declare(work)).assert_completed()
    assert calls == []


def test_a_job_hands_itself_back_when_its_worker_stops(declare: Declare) -> None:
    def work(ctx: JobContext) -> None:
        for step in range(10):
            if ctx.stopping:
                raise WorkerStopping
            ctx.progress(step + 1, 10)

    run = run_job(declare(work), stop_after=4)
    assert (run.status, len(run.progress)) == ("queued", 4)
    run_job(declare(work)).assert_completed()


def test_the_world_can_change_while_a_job_runs(declare: Declare) -> None:
    world = {"there": True}

    def work(ctx: JobContext) -> None:
        for step in range(3):
            ctx.progress(step + 1, 3)
            if not world["there"]:
                raise PermanentError("It is gone.", code="gone")

    def vanish(report: dict[str, Any]) -> None:
        world["there"] = report["current"] < 2

    run = run_job(declare(work), on_progress=vanish)
    run.assert_failed("gone")
    assert len(run.progress) == 2


def test_what_goes_wrong_with_a_sensitive_job_is_not_told(declare: Declare) -> None:
    run = run_job(declare(raising(ValueError("card 4111")), sensitive=True))
    run.assert_retrying("value_error")
    assert run.error is not None
    assert "4111" not in run.error["message"]
    later = run_job(declare(raising(RetryLater(30, "card 4111")), sensitive=True))
    assert (later.retry_in, "4111" in str(later.error)) == (30, False)
    assert "4111" in str(run.exception), "whoever tests it may look closer"


def test_a_failed_assertion_tells_the_story(declare: Declare) -> None:
    def work(ctx: JobContext) -> None:
        ctx.progress(1, 4, "First")
        ctx.log("about to divide", "warning")
        raise ZeroDivisionError("by nought")

    with pytest.raises(AssertionError) as caught:
        run_job(declare(work)).assert_completed()
    story = str(caught.value)
    assert "is retrying" in story
    assert "'code': 'zero_division_error'" in story
    assert "logged warning: about to divide" in story
    assert "'message': 'First'" in story
    assert "in work" in story, "the traceback leads into the body"
    with pytest.raises(AssertionError, match="expected the error code 'bad_picture', but"):
        run_job(declare(work)).assert_retrying("bad_picture")


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        ([1, 3, 2, 4], "went back from 75 % to 50 % with report 3"),
        ([1, 2], "its progress ended at 50 %"),
        ([], "the body told none"),
    ],
)
def test_progress_that_does_not_grow_is_told(declare: Declare, steps: list[int], complaint: str) -> None:
    def work(ctx: JobContext) -> None:
        for step in steps:
            ctx.progress(step, 4)

    with pytest.raises(AssertionError, match=complaint):
        run_job(declare(work)).assert_progress_grows()


def test_the_kit_needs_no_server_and_no_settings() -> None:
    # Nonsense for settings: whoever read them would fail.
    code = "from tasks.testing import run_job; run_job('demo-steps', {'steps': 1}).assert_completed()"
    nonsense = {"DATABASE_URL": "nonsense", "REDIS_URL": "nonsense", "PORT": "nonsense"}
    outcome = subprocess.run([sys.executable, "-c", code], env=nonsense, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
