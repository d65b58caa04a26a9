"""`/api/admin/audit-log`."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask_smorest import Blueprint

from service.accounts.identity import current_identity, requires_role
from service.accounts.roles import ADMIN
from service.audit.queries import AuditFilter, list_entries
from service.audit.schemas import AuditFilterSchema, AuditPageSchema
from service.pagination import Page
from service.web import json_answer

blueprint = Blueprint("audit", __name__, url_prefix="/api/admin/audit-log", description="Who did what, and when")


@blueprint.route("", methods=["GET"])
@requires_role(ADMIN)
@blueprint.arguments(AuditFilterSchema, location="query")
@blueprint.response(200, AuditPageSchema)
def list_audit_log(arguments: dict[str, Any]) -> Response:
    """List what was done in your organization, newest first."""
    page = Page.taken_from(arguments)
    return json_answer(list_entries(current_identity().organization_id, AuditFilter(**arguments), page))
