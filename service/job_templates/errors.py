"""What can go wrong with job templates."""

from __future__ import annotations

from service.errors import Conflict, NotFound


class TemplateNotFound(NotFound):
    """There is no such job template."""

    code = "job_template_not_found"


class TemplateNameTaken(Conflict):
    """You have a job template of this name already."""

    code = "job_template_name_taken"
