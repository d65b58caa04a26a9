"""Reads of notification templates.

The id of a template is that of its first version; the id of any other leads to it too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select, tuple_
from sqlalchemy.dialects.postgresql import distinct_on

from service.accounts.identity import Identity
from service.database import db
from service.notification_templates.errors import TemplateNotFound
from service.notification_templates.models import NotificationTemplate
from service.notification_templates.representation import template_json
from service.pagination import Page, paginate


def visible_template(template_id: UUID, identity: Identity, version: int | None = None) -> NotificationTemplate:
    """The newest version of a template, or the one that is asked for; raises TemplateNotFound."""
    known = db.session.get(NotificationTemplate, template_id)
    if known is None or known.organization_id != identity.organization_id:
        raise TemplateNotFound
    query = versions_of(known)
    if version is not None:
        query = query.where(NotificationTemplate.version == version)
    found: NotificationTemplate | None = db.session.scalar(query.limit(1)) if known.deleted_at is None else None
    if found is None:
        raise TemplateNotFound
    return found


def versions_of(template: NotificationTemplate) -> Select[Any]:
    """All versions of a template, the newest first."""
    return (
        select(NotificationTemplate)
        .where(
            NotificationTemplate.organization_id == template.organization_id,
            NotificationTemplate.name == template.name,
            NotificationTemplate.locale == template.locale,
            NotificationTemplate.deleted_at.is_(None),
        )
        .order_by(NotificationTemplate.version.desc())
    )


def template_page(identity: Identity, page: Page, *, name: str | None = None, locale: str | None = None) -> Any:
    """A page of the templates of a tenant in their newest versions, by name and locale."""
    query = (
        select(NotificationTemplate)
        .where(
            NotificationTemplate.organization_id == identity.organization_id,
            NotificationTemplate.deleted_at.is_(None),
        )
        .ext(distinct_on(NotificationTemplate.name, NotificationTemplate.locale))
        .order_by(NotificationTemplate.name, NotificationTemplate.locale, NotificationTemplate.version.desc())
    )
    if name is not None:
        query = query.where(NotificationTemplate.name == name)
    if locale is not None:
        query = query.where(NotificationTemplate.locale == locale)
    return _with_ids(identity.organization_id, paginate(query, page, lambda template: template))


def version_page(template: NotificationTemplate, page: Page) -> Any:
    """A page of the versions of a template, the newest first."""
    return _with_ids(template.organization_id, paginate(versions_of(template), page, lambda version: version))


def _with_ids(organization_id: UUID, found: dict[str, Any]) -> dict[str, Any]:
    ids = _first_ids(organization_id, found["data"])
    return {**found, "data": [template_json(each, ids[each.name, each.locale]) for each in found["data"]]}


def id_of(template: NotificationTemplate) -> UUID:
    """The id of the template that this is a version of."""
    return _first_ids(template.organization_id, [template])[template.name, template.locale]


def _first_ids(organization_id: UUID, templates: Iterable[NotificationTemplate]) -> dict[tuple[str, str], UUID]:
    """The ids of the first versions by name and locale."""
    wanted = {(each.name, each.locale) for each in templates}
    query = (
        select(NotificationTemplate.name, NotificationTemplate.locale, NotificationTemplate.id)
        .where(
            NotificationTemplate.organization_id == organization_id,
            tuple_(NotificationTemplate.name, NotificationTemplate.locale).in_(wanted),
            NotificationTemplate.deleted_at.is_(None),
        )
        .ext(distinct_on(NotificationTemplate.name, NotificationTemplate.locale))
        .order_by(NotificationTemplate.name, NotificationTemplate.locale, NotificationTemplate.version)
    )
    return {(name, locale): id_ for name, locale, id_ in db.session.execute(query)} if wanted else {}


def number_of_templates(organization_id: UUID) -> int:
    """How many templates a tenant has."""
    living = (
        select(NotificationTemplate.name, NotificationTemplate.locale)
        .where(NotificationTemplate.organization_id == organization_id, NotificationTemplate.deleted_at.is_(None))
        .distinct()
    )
    return db.session.scalar(select(func.count()).select_from(living.subquery())) or 0
