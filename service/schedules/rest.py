"""`/api/schedules`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response
from flask_smorest import Blueprint

from service.accounts.identity import current_identity
from service.clock import isoformat, utcnow
from service.jobs.requests import accepted_answer
from service.jobs.schemas import JobSchema
from service.pagination import LongListArguments, Page, paginate
from service.schedules import actions, queries
from service.schedules.models import Schedule
from service.schedules.representation import schedule_json
from service.schedules.schemas import (
    NewScheduleSchema,
    ScheduleChangeSchema,
    ScheduleFilterSchema,
    SchedulePageSchema,
    ScheduleRunPageSchema,
    ScheduleSchema,
    TimesSchema,
    TimingSchema,
)
from service.schedules.times import next_times, timing
from service.web import json_answer

blueprint = Blueprint("schedules", __name__, url_prefix="/api/schedules", description="Submit jobs by the clock")


def _json(schedule: Schedule) -> dict[str, Any]:
    return schedule_json(schedule, queries.coming_times(schedule), current_identity().user_id)


@blueprint.route("", methods=["GET"])
@blueprint.arguments(ScheduleFilterSchema, location="query")
@blueprint.response(200, SchedulePageSchema)
def list_schedules(arguments: dict[str, Any]) -> Response:
    """List your schedules by name; operators see those of their organization."""
    page = Page.taken_from(arguments)
    return json_answer(paginate(queries.visible_schedules(current_identity(), **arguments), page, _json))


@blueprint.route("", methods=["POST"])
@blueprint.arguments(NewScheduleSchema)
@blueprint.response(201, ScheduleSchema)
def create_schedule(body: dict[str, Any]) -> Response:
    """Have a job submitted at the times of a cron expression, or every so many seconds."""
    schedule = actions.create_schedule(current_identity(), body)
    return json_answer(_json(schedule), 201, {"Location": f"/api/schedules/{schedule.id}"})


@blueprint.route("/preview", methods=["POST"])
@blueprint.arguments(TimingSchema)
@blueprint.response(200, TimesSchema)
def preview(body: dict[str, Any]) -> Response:
    """Show the next five times that a schedule would have, without creating one."""
    now = utcnow()
    times = next_times(timing(**body, anchor=now), now, queries.SHOWN)
    return json_answer({"nextRuns": [isoformat(each) for each in times]})


@blueprint.route("/<uuid:schedule_id>", methods=["GET"])
@blueprint.response(200, ScheduleSchema)
def get_schedule(schedule_id: UUID) -> Response:
    """Read a schedule and its next five times."""
    return json_answer(_json(queries.visible_schedule(schedule_id, current_identity())))


@blueprint.route("/<uuid:schedule_id>", methods=["PUT"])
@blueprint.arguments(NewScheduleSchema)
@blueprint.response(200, ScheduleSchema)
def replace_schedule(body: dict[str, Any], schedule_id: UUID) -> Response:
    """Replace one of your schedules: what is not given is as in a new one."""
    return json_answer(_json(actions.change_schedule(schedule_id, current_identity(), body)))


@blueprint.route("/<uuid:schedule_id>", methods=["PATCH"])
@blueprint.arguments(ScheduleChangeSchema)
@blueprint.response(200, ScheduleSchema)
def change_schedule(body: dict[str, Any], schedule_id: UUID) -> Response:
    """Change one of your schedules; its next time is reckoned from now."""
    return json_answer(_json(actions.change_schedule(schedule_id, current_identity(), body)))


@blueprint.route("/<uuid:schedule_id>", methods=["DELETE"])
@blueprint.response(204)
def delete_schedule(schedule_id: UUID) -> None:
    """Delete a schedule; its jobs stay."""
    actions.delete_schedule(schedule_id, current_identity())


@blueprint.route("/<uuid:schedule_id>/pause", methods=["POST"])
@blueprint.response(200, ScheduleSchema)
def pause(schedule_id: UUID) -> Response:
    """Pause a schedule; jobs that there are go on."""
    return json_answer(_json(actions.pause_schedule(schedule_id, current_identity())))


@blueprint.route("/<uuid:schedule_id>/resume", methods=["POST"])
@blueprint.response(200, ScheduleSchema)
def resume(schedule_id: UUID) -> Response:
    """Go on with the next time from now; what passed in the pause is not made good."""
    return json_answer(_json(actions.resume_schedule(schedule_id, current_identity())))


@blueprint.route("/<uuid:schedule_id>/run", methods=["POST"])
@blueprint.response(202, JobSchema)
@blueprint.alt_response(200, schema=JobSchema, description="A unique job that there was stands for this run")
def run(schedule_id: UUID) -> Response:
    """Submit a job of the schedule now, paused or not; the next time stays."""
    return accepted_answer(actions.run_schedule(schedule_id, current_identity()))


@blueprint.route("/<uuid:schedule_id>/runs", methods=["GET"])
@blueprint.arguments(LongListArguments, location="query")
@blueprint.response(200, ScheduleRunPageSchema)
def list_runs(arguments: dict[str, Any], schedule_id: UUID) -> Response:
    """List what became of the newest times of a schedule, newest first."""
    queries.visible_schedule(schedule_id, current_identity())
    return json_answer(queries.runs(schedule_id, Page.taken_from(arguments)))
