"""What can go wrong with schedules."""

from __future__ import annotations

from service.errors import Conflict, NotFound


class ScheduleNotFound(NotFound):
    """There is no such schedule."""

    code = "schedule_not_found"


class ScheduleNameTaken(Conflict):
    """You have a schedule of this name already."""

    code = "schedule_name_taken"


class OwnerDeactivated(Conflict):
    """The account of the schedule's owner is deactivated."""

    code = "owner_deactivated"
