"""What people do to notification templates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update

from service.accounts.identity import Identity
from service.accounts.models import Organization
from service.audit.actions import record
from service.clock import utcnow
from service.database import db, transaction
from service.errors import ValidationFailed
from service.notification_templates.builtin import BUILTINS, EMAIL
from service.notification_templates.errors import TemplateExists, TooManyTemplates
from service.notification_templates.models import NotificationTemplate
from service.notification_templates.queries import id_of, number_of_templates, versions_of, visible_template
from service.notification_templates.rendering import Rendered, as_source, check_source, render_source
from service.notifications.channel_messages import OUTSIDE, queue_message
from service.notifications.composing import RENDERED

MAXIMUM_TEMPLATES = 500

# What a version says.
CONTENT = ("channels", "subject", "body", "html", "variables")


def create_template(identity: Identity, fields: Mapping[str, Any]) -> NotificationTemplate:
    """A new template; raises TemplateExists, TooManyTemplates or ValidationFailed."""
    template = NotificationTemplate(organization_id=identity.organization_id, created_by=identity.user_id, **fields)
    _check(template)
    with transaction() as session:
        _lock(identity.organization_id)
        if session.scalar(versions_of(template).limit(1)) is not None:
            raise TemplateExists
        if number_of_templates(identity.organization_id) >= MAXIMUM_TEMPLATES:
            raise TooManyTemplates
        # Versions of one that was deleted are kept, and their numbers with them.
        template.version = _highest_version(template) + 1
        session.add(template)
        session.flush()
        record("notification_template.create", "notification_template", template.id, _said(template))
    return template


def change_template(template_id: UUID, identity: Identity, fields: Mapping[str, Any]) -> NotificationTemplate:
    """Write the next version, with what is given said otherwise; without a difference the present one stays.

    Raises TemplateNotFound or ValidationFailed.
    """
    with transaction() as session:
        _lock(identity.organization_id)
        present = visible_template(template_id, identity)
        _check_names(present, fields)
        content = {name: fields.get(name, getattr(present, name)) for name in CONTENT}
        if all(getattr(present, name) == value for name, value in content.items()):
            return present
        following = NotificationTemplate(
            organization_id=present.organization_id,
            name=present.name,
            locale=present.locale,
            version=present.version + 1,
            created_by=identity.user_id,
            **content,
        )
        _check(following)
        session.add(following)
        session.flush()
        record("notification_template.update", "notification_template", id_of(present), _said(following))
    return following


def delete_template(template_id: UUID, identity: Identity) -> None:
    """Hide a template with all its versions, which are kept; raises TemplateNotFound."""
    with transaction() as session:
        _lock(identity.organization_id)
        present = visible_template(template_id, identity)
        said, first = _said(present), id_of(present)
        living = versions_of(present).with_only_columns(NotificationTemplate.id).order_by(None)
        session.execute(
            update(NotificationTemplate).where(NotificationTemplate.id.in_(living)).values(deleted_at=utcnow())
        )
        record("notification_template.delete", "notification_template", first, said)


def preview(template: NotificationTemplate, variables: Mapping[str, Any], channel: str | None) -> Rendered:
    """What a template would say; raises TemplateVariablesMissing, TemplateFailed or ValidationFailed."""
    return render_source(as_source(template), variables, _channel(template, channel))


def send_test(
    template: NotificationTemplate, identity: Identity, variables: Mapping[str, Any], channel: str | None
) -> UUID:
    """Have a template sent to whoever asks, as it is now; the id of the message. Raises as `preview`."""
    channel = _channel(template, channel)
    if channel not in OUTSIDE:
        raise ValidationFailed(errors={"channel": [f"Tests are sent by {', '.join(OUTSIDE)}; preview the others."]})
    words = asdict(preview(template, variables, channel))
    with transaction():
        message_id = queue_message(identity.user_id, channel, RENDERED, words)
        details = {**_said(template), "channel": channel}
        record("notification_template.test", "notification_template", id_of(template), details)
    return message_id


def _channel(template: NotificationTemplate, channel: str | None) -> str:
    """The channel that is asked for, else e-mail, else the template's first."""
    if channel is None:
        return EMAIL if EMAIL in template.channels else template.channels[0]
    if channel not in template.channels:
        raise ValidationFailed(errors={"channel": [f"Not one of the template's: {', '.join(template.channels)}."]})
    return channel


def _lock(organization_id: UUID) -> None:
    """Have the changes of a tenant come one after the other: two at once would write one version twice."""
    db.session.execute(
        select(Organization.id).where(Organization.id == organization_id).with_for_update(key_share=True)
    )


def _highest_version(template: NotificationTemplate) -> int:
    query = select(func.max(NotificationTemplate.version)).where(
        NotificationTemplate.organization_id == template.organization_id,
        NotificationTemplate.name == template.name,
        NotificationTemplate.locale == template.locale,
    )
    return db.session.scalar(query) or 0


def _check_names(present: NotificationTemplate, fields: Mapping[str, Any]) -> None:
    changed = [
        name for name in ("name", "locale") if fields.get(name, getattr(present, name)) != getattr(present, name)
    ]
    if changed:
        raise ValidationFailed(errors={name: ["It stays: make another template."] for name in changed})


def _check(template: NotificationTemplate) -> None:
    """Whether a template can be rendered at all, with what it will be given; raises ValidationFailed."""
    builtin = BUILTINS.get(template.name)
    # The platform sends it, and gives nothing else.
    given = set(template.variables) if builtin is None else {*builtin.variables, *builtin.optional}
    if unknown := sorted(set(template.variables) - given):
        message = f"{template.name} is sent with {', '.join(sorted(given))}, and without {', '.join(unknown)}."
        raise ValidationFailed(errors={"variables": [message]})
    check_source(as_source(template))


def _said(template: NotificationTemplate) -> dict[str, Any]:
    return {"name": template.name, "locale": template.locale, "version": template.version}
