"""What people do to job templates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any
from uuid import UUID

import marshmallow as ma
from sqlalchemy.exc import IntegrityError

from service.accounts.identity import Identity
from service.audit.actions import record
from service.database import transaction
from service.errors import NotAllowed, ValidationFailed, flatten_messages
from service.job_templates.errors import TemplateNameTaken
from service.job_templates.models import JobTemplate
from service.job_templates.placeholders import MAXIMUM_MESSAGES, TooLarge, faults, filled, names_in
from service.job_templates.queries import visible_template
from service.job_templates.schemas import TemplateOptionsSchema
from service.jobs.requests import submission_of
from service.jobs.submission import Accepted, Submission, check_submission, submit_job
from service.settings import current_settings

# Options that say the same in two ways: one of a run takes the place of the other of its template.
ALTERNATIVES = (("delay", "run_at"), ("retry_backoff", "retry_strategy"))


def create_template(identity: Identity, fields: Mapping[str, Any]) -> JobTemplate:
    """A new template; raises TemplateNameTaken, ValidationFailed, UnknownJobType, or NotAllowed to share it."""
    with _unique_name(), transaction() as session:
        template = JobTemplate(organization_id=identity.organization_id, user_id=identity.user_id, shared=False)
        _apply(template, identity, fields)
        session.add(template)
        session.flush()
        record("job_template.create", "job_template", template.id, _said(template))
    return template


def change_template(template_id: UUID, identity: Identity, fields: Mapping[str, Any]) -> JobTemplate:
    """Change what is given; raises as `create_template`."""
    with _unique_name(), transaction() as session:
        template = _changeable(template_id, identity)
        _apply(template, identity, fields)
        session.flush()
        record("job_template.update", "job_template", template_id, {**_said(template), "fields": sorted(fields)})
    return template


def delete_template(template_id: UUID, identity: Identity) -> None:
    """Delete a template; its jobs stay."""
    with transaction() as session:
        template = _changeable(template_id, identity)
        session.delete(template)
        record("job_template.delete", "job_template", template_id, _said(template))


def run_template(
    template_id: UUID,
    identity: Identity,
    *,
    variables: Mapping[str, Any],
    options: Mapping[str, Any],
    idempotency_key: str | None,
) -> Accepted:
    """Submit the job of a template in the name of who asks.

    Raises ValidationFailed for values that are missing, unknown or too large, PayloadUnreadable, and what `submit_job`
    raises.
    """
    with transaction():
        template = visible_template(template_id, identity)
        values = _values(template.variables, variables)
        try:
            payload = filled(template.opened_payload(), values, limit=current_settings().max_body_bytes)
        except TooLarge as error:
            raise ValidationFailed(errors={"variables": [type(error).__doc__]}) from None
        accepted = submit_job(
            _submission(template, payload, options),
            organization_id=identity.organization_id,
            user_id=identity.user_id,
            idempotency_key=idempotency_key,
        )
        if accepted.outcome != "replayed":
            record("job_template.run", "job_template", template_id, {"jobId": str(accepted.row["id"])})
    return accepted


def _changeable(template_id: UUID, identity: Identity) -> JobTemplate:
    """A template that somebody may change: what everybody in the tenant runs, operators answer for."""
    template = visible_template(template_id, identity)
    if not identity.is_operator and (template.shared or template.user_id != identity.user_id):
        raise NotAllowed
    return template


def _apply(template: JobTemplate, identity: Identity, fields: Mapping[str, Any]) -> None:
    """Set what is given and check the whole."""
    given = dict(fields)
    if given.get("shared", template.shared) != template.shared and not identity.is_operator:
        raise NotAllowed("Only operators share job templates.")
    payload = given.pop("payload") if "payload" in given else template.opened_payload()
    template.keep(given.pop("type", template.type), payload)
    if "options" in given:
        template.options = TemplateOptionsSchema().dump(given.pop("options"))
    for name, value in given.items():
        setattr(template, name, value)
    if template.sensitive and any("default" in each for each in template.variables):
        raise ValidationFailed(errors={"variables": ["Of a sensitive type they have no defaults: nobody seals them."]})
    if wrong := faults(payload, {each["name"] for each in template.variables}):
        raise ValidationFailed(errors=wrong)
    if not names_in(payload):
        # Nothing will change it: what a run would refuse is refused now.
        check_submission(_submission(template, filled(payload, {}, limit=0), {}), template.user_id)


def _values(declared: Sequence[Mapping[str, Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    """The value of each variable; raises ValidationFailed."""
    missing = [each["name"] for each in declared if each["required"] and each["name"] not in given]
    unknown = given.keys() - {each["name"] for each in declared}
    wrong = {f"variables.{name}": ["Missing data for required field."] for name in missing}
    wrong |= {f"variables.{name}": ["There is no such variable."] for name in islice(sorted(unknown), MAXIMUM_MESSAGES)}
    if wrong:
        raise ValidationFailed(errors=wrong)
    return {each["name"]: given.get(each["name"], each.get("default")) for each in declared}


def _submission(template: JobTemplate, payload: Mapping[str, Any], options: Mapping[str, Any]) -> Submission:
    try:
        own = TemplateOptionsSchema().load(template.options)
    except ma.ValidationError as error:
        raise ValidationFailed(errors=flatten_messages(error.messages, "options")) from None
    for pair in ALTERNATIVES:
        if options.keys() & set(pair):
            own = {name: value for name, value in own.items() if name not in pair}
    body = {"type": template.type, "payload": payload, "name": template.name, "options": {**own, **options}}
    return submission_of(body)


def _said(template: JobTemplate) -> dict[str, Any]:
    return {"name": template.name, "type": template.type, "shared": template.shared}


@contextmanager
def _unique_name() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        if "uq_job_templates_user_id_name" not in str(error.orig):
            raise
        raise TemplateNameTaken from None
