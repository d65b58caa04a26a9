"""Reads of job templates."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Select, or_, select

from service.accounts.identity import Identity
from service.database import db
from service.errors import NotAllowed
from service.job_templates.errors import TemplateNotFound
from service.job_templates.models import JobTemplate


def visible_template(template_id: UUID, identity: Identity) -> JobTemplate:
    """A template that somebody may read and run; raises TemplateNotFound across tenants, NotAllowed within one."""
    template = db.session.get(JobTemplate, template_id)
    if template is None or template.organization_id != identity.organization_id:
        raise TemplateNotFound
    if not (template.user_id == identity.user_id or template.shared or identity.is_operator):
        raise NotAllowed
    return template


def visible_templates(
    identity: Identity, *, type: str | None = None, shared: bool | None = None, q: str | None = None
) -> Select[Any]:
    """The user's templates and the shared ones, or all of the tenant for an operator, by name; `q` is part of it."""
    query = select(JobTemplate).where(JobTemplate.organization_id == identity.organization_id)
    if not identity.is_operator:
        query = query.where(or_(JobTemplate.user_id == identity.user_id, JobTemplate.shared))
    if type is not None:
        query = query.where(JobTemplate.type == type)
    if shared is not None:
        query = query.where(JobTemplate.shared.is_(shared))
    if q is not None:
        query = query.where(JobTemplate.name.icontains(q, autoescape=True))
    return query.order_by(JobTemplate.name, JobTemplate.id)
