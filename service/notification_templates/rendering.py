"""From a name and values to words: which template holds, whether it has all it needs, and what comes of it.

    rendered = render(organization_id, "job_failed", "de-AT", variables, "email")

The tenant's template of that locale comes first, then that of the language, then the English one, then the platform's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on

from service.database import db, transaction
from service.errors import ValidationFailed
from service.notification_templates import locales
from service.notification_templates.builtin import BUILTINS, EMAIL, PUBLIC_URL
from service.notification_templates.errors import TemplateFailed, TemplateNotFound, TemplateVariablesMissing
from service.notification_templates.meter import Meter
from service.notification_templates.models import NotificationTemplate
from service.notification_templates.sandbox import RenderingFailed, SourceRefused, names_in, rendered
from service.settings import current_settings
from service.text import storable
from service.threads import aside

log = structlog.get_logger(__name__)

# As long as mail programs show at most; a line of a mail's header could not hold much more.
MAXIMUM_SUBJECT = 500


@dataclass(frozen=True, slots=True)
class Rendered:
    """The words of a message; `subject` is one line, `html` there is only for e-mail, where the template has it."""

    subject: str
    text: str
    html: str | None


@dataclass(frozen=True, slots=True)
class Source:
    """A template to be rendered; `optional` variables are null where they are not given."""

    subject: str
    body: str
    html: str | None
    variables: Collection[str]
    optional: Collection[str] = ()

    @property
    def parts(self) -> dict[str, str]:
        """The sources by their field."""
        parts = {"subject": self.subject, "body": self.body}
        return parts if self.html is None else {**parts, "html": self.html}


def render(
    organization_id: UUID | None, name: str, locale: str | None, variables: Mapping[str, Any], channel: str
) -> Rendered:
    """The words of a message of a tenant by a channel, from values that JSON knows.

    A template in the place of one of the platform's that does not come to its end is passed over for the platform's: a
    link to a new password has to arrive. Raises TemplateNotFound, TemplateVariablesMissing or TemplateFailed.
    """
    own = source_of(organization_id, name, locale, channel)
    builtin = _builtin(name, channel)
    if own is None:
        if builtin is None:
            raise TemplateNotFound
        return render_source(builtin, variables, channel)
    try:
        return render_source(own, variables, channel)
    except (TemplateFailed, TemplateVariablesMissing) as error:
        if builtin is None:
            raise
        log.warning("template_passed_over", organization_id=str(organization_id), template=name, error=error.message)
        return render_source(builtin, variables, channel)


def source_of(organization_id: UUID | None, name: str, locale: str | None, channel: str) -> Source | None:
    """The tenant's template for a locale and a channel, if there is one that serves; for many recipients at once."""
    if organization_id is None:
        return None
    wanted = locales.fallbacks(locale)
    query = _in_force(organization_id, name).where(
        NotificationTemplate.locale.in_(wanted), NotificationTemplate.channels.contains([channel])
    )
    with transaction():
        found = {each.locale: each for each in db.session.scalars(query)}
        for each in wanted:
            if each in found:
                return as_source(found[each])
    return None


def check_variables(organization_id: UUID, name: str, given: Collection[str]) -> None:
    """Whether a message of this name could be rendered in every locale, before it is sent to anybody.

    `given` are the names of the sender's variables and of those that the platform adds for each recipient. Raises
    TemplateNotFound or TemplateVariablesMissing.
    """
    with transaction():
        own = list(db.session.scalars(_in_force(organization_id, name)))
        needed = {variable for each in own for variable in as_source(each).variables}
    if not own:
        if name not in BUILTINS:
            raise TemplateNotFound
        needed = set(BUILTINS[name].variables)
    if missing := needed - set(given):
        raise TemplateVariablesMissing(missing)


def _in_force(organization_id: UUID, name: str) -> Any:
    """The newest version of each locale of a name."""
    return (
        select(NotificationTemplate)
        .where(
            NotificationTemplate.organization_id == organization_id,
            NotificationTemplate.name == name,
            NotificationTemplate.deleted_at.is_(None),
        )
        .ext(distinct_on(NotificationTemplate.locale))
        .order_by(NotificationTemplate.locale, NotificationTemplate.version.desc())
    )


def as_source(template: NotificationTemplate) -> Source:
    """A version of a template, to be rendered."""
    builtin = BUILTINS.get(template.name)
    optional = builtin.optional if builtin else ()
    needed = [name for name in template.variables if name not in optional]
    return Source(template.subject, template.body, template.html, needed, optional)


def _builtin(name: str, channel: str) -> Source | None:
    builtin = BUILTINS.get(name)
    if builtin is None or channel not in builtin.channels:
        return None
    return Source(builtin.subject, builtin.body, builtin.html, builtin.variables, builtin.optional)


def render_source(source: Source, variables: Mapping[str, Any], channel: str) -> Rendered:
    """The words that a source makes of values; raises TemplateVariablesMissing or TemplateFailed."""
    if missing := set(source.variables) - variables.keys():
        raise TemplateVariablesMissing(missing)
    values = {**dict.fromkeys(source.optional), **variables, PUBLIC_URL: current_settings().public_url}
    parts = source.parts
    if channel != EMAIL:
        parts.pop("html", None)
    texts = aside(_texts, parts, values)
    # A subject of two lines would be two headers.
    subject = " ".join(texts["subject"].split())[:MAXIMUM_SUBJECT]
    return Rendered(subject, texts["body"], texts.get("html"))


def _texts(parts: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, str]:
    """Each part as text, for one price together."""
    meter, texts = Meter(), {}
    for name, source in parts.items():
        try:
            texts[name] = storable(rendered(source, values, meter, html=name == "html"))
        except (RenderingFailed, SourceRefused) as error:
            raise TemplateFailed(f"The {name} cannot be rendered. {error}", errors={name: [str(error)]}) from None
    return texts


def check_source(source: Source) -> None:
    """Refuse (ValidationFailed) a source that cannot be run, or that uses what is not among its variables."""
    wrong, used = _faults(source)
    known = {*source.variables, *source.optional, PUBLIC_URL}
    for name, names in used.items():
        if undeclared := sorted(names - known):
            wrong[name] = [f"These are not declared in variables: {', '.join(undeclared)}."]
    if wrong:
        raise ValidationFailed(errors=wrong)


def check_given(source: Source) -> None:
    """As `check_source`, for one whose variables are those that were given with it: raises TemplateVariablesMissing."""
    wrong, used = _faults(source)
    if wrong:
        raise ValidationFailed(errors=wrong)
    if missing := {name for names in used.values() for name in names} - {*source.variables, PUBLIC_URL}:
        raise TemplateVariablesMissing(missing)


def _faults(source: Source) -> tuple[dict[str, list[str]], dict[str, frozenset[str]]]:
    return aside(_read, source.parts)


def _read(parts: Mapping[str, str]) -> tuple[dict[str, list[str]], dict[str, frozenset[str]]]:
    """Why parts cannot be run, and what the others use, by field."""
    wrong: dict[str, list[str]] = {}
    used: dict[str, frozenset[str]] = {}
    for name, text in parts.items():
        try:
            used[name] = names_in(text, html=name == "html")
        except SourceRefused as error:
            wrong[name] = [str(error)]
    return wrong, used
