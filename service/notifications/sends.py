"""What is sent to an audience: accepted as one row and a job for each channel, in one transaction.

send_to_roles(["operator"], sender_id=…, organization_id=…, type="maintenance", title=…, message=…)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select, update

from service.accounts.models import User
from service.accounts.roles import ADMIN, OPERATOR, SENDER
from service.clock import utcnow
from service.database import fetch_all, transaction
from service.errors import CarillonError, Conflict, NotAllowed, ValidationFailed
from service.events import JobRow
from service.ids import new_id
from service.jobs import idempotency
from service.jobs.actions import cancel_jobs
from service.jobs.submission import Submission, submit_jobs
from service.notification_templates.errors import TemplateNotFound
from service.notification_templates.models import NotificationTemplate
from service.notification_templates.rendering import check_variables
from service.notifications.audience import MAXIMUM_USER_IDS, Audience, check_audience, count_recipients
from service.notifications.buttons import ACTION, buttons_of
from service.notifications.composing import ANYBODY, USERNAME, words_of
from service.notifications.models import NotificationSend
from service.notifications.preferences import CHANNELS, IN_APP

# Who may send to others.
SENDING_ROLES = frozenset({ADMIN, OPERATOR, SENDER})
# The job type of each channel (S3).
JOB_TYPES = {channel: f"{channel.replace('_', '-')}-notification" for channel in CHANNELS}
CHANNEL_OF = {job_type: channel for channel, job_type in JOB_TYPES.items()}
GENERAL = "general"
# Who presses a button settles it for all of them in one transaction.
MAXIMUM_ASKED = 1_000


class SendNotCancellable(Conflict):
    """Everything of this has been sent or cancelled."""

    code = "send_not_cancellable"


@dataclass(frozen=True, kw_only=True)
class NewSend:
    """Something that somebody wants told; `actions` are buttons `{key, label, kind, url?}`.

    Title and message may be left to a template, which is known by its name or by the id of any version of it.
    """

    type: str
    audience: Audience
    title: str | None = None
    message: str | None = None
    channels: Sequence[str] = (IN_APP,)
    category: str = GENERAL
    data: Mapping[str, Any] = field(default_factory=dict)
    actions: Sequence[Mapping[str, Any]] | None = None
    send_at: datetime | None = None
    expires_at: datetime | None = None
    template: str | None = None
    template_id: UUID | None = None
    locale: str | None = None
    variables: Mapping[str, Any] | None = None
    is_critical: bool = False


@dataclass(frozen=True, kw_only=True)
class Sender:
    """In whose name something is sent, within which tenant; without a user it is the platform itself."""

    organization_id: UUID
    user_id: UUID | None = None
    roles: Collection[str] = ()

    def check(self, new: NewSend) -> None:
        """Raise NotAllowed where he may not send this: only administrators say what is critical."""
        if self.user_id is None:
            return
        if not SENDING_ROLES & set(self.roles) or (new.is_critical and ADMIN not in self.roles):
            raise NotAllowed


class Sent(NamedTuple):
    """A send, and its jobs by channel."""

    send_id: UUID
    jobs: Mapping[str, UUID]
    # Whether an Idempotency-Key led to what was sent before.
    is_replay: bool = False


def tag_of(send_id: UUID) -> str:
    """What all jobs of a send are tagged with."""
    return f"send:{send_id}"


def sender_of(user_id: UUID) -> Sender:
    """A user as the database knows him now; raises NotAllowed for one who is gone."""
    with transaction() as session:
        user = session.get(User, user_id)
        if user is None or not user.is_active:
            raise NotAllowed
        return Sender(organization_id=user.organization_id, user_id=user.id, roles=frozenset(user.roles))


def send_to_users(user_ids: Sequence[UUID], *, sender: Sender, **said: Any) -> Sent:
    """Send to users by their ids; the rest is said as in `NewSend`. Raises as `send`."""
    return send(NewSend(audience=Audience(user_ids=user_ids), **said), sender)


def send_to_roles(roles: Sequence[str], *, sender: Sender, **said: Any) -> Sent:
    """Send to everybody with one of these roles; the rest is said as in `NewSend`. Raises as `send`."""
    return send(NewSend(audience=Audience(roles=roles), **said), sender)


def send_to_users_and_roles(user_ids: Sequence[UUID], roles: Sequence[str], *, sender: Sender, **said: Any) -> Sent:
    """Send to users by their ids and to those with one of these roles, each once; raises as `send`."""
    return send(NewSend(audience=Audience(user_ids=user_ids, roles=roles), **said), sender)


def send(new: NewSend, sender: Sender, *, send_id: UUID | None = None) -> Sent:
    """Accept something to be sent, in the present transaction where there is one.

    A `send_id` that was used before leads to what was sent then. Raises ValidationFailed, EmptyAudience and NotAllowed.
    """
    if send_id is not None:
        known = _known(send_id)
        if known is not None:
            return known
    return send_all([new], sender, ids=None if send_id is None else [send_id])[0]


def check_send(new: NewSend, sender: Sender) -> None:
    """Raise what `send` would raise; nothing is written."""
    sender.check(new)
    _checked(new, sender, "")


def send_all(
    news: Sequence[NewSend], sender: Sender, *, ids: Sequence[UUID] | None = None, idempotency_key: str | None = None
) -> list[Sent]:
    """Accept all or none, in their order; raises as `send`, and IdempotencyConflict.

    Errors of one of several name its place: `notifications.3.userIds.0`.
    """
    for new in news:
        sender.check(new)
    owner = owner_of(sender)
    if idempotency_key is not None and (first := _first(owner, idempotency_key, news)) is not None:
        # Before anything that depends on the present: what was accepted once may not be acceptable any more.
        return _replayed(first)
    # Outside of the transaction that writes: templates take their time, and connections are few.
    checked = [_checked(new, sender, _place(number, news)) for number, new in enumerate(news)]
    sends = [_row(new, sender, send_id) for new, send_id in zip(checked, ids or [new_id() for _ in news], strict=True)]
    submissions = [each for send, new in zip(sends, checked, strict=True) for each in _submissions(send, new)]
    with transaction() as session:
        if idempotency_key is not None:
            job_ids = [str(each.id) for each in submissions]
            first = idempotency.claim(owner, idempotency_key, _digest(news), job_ids, utcnow())
            if first is not None:
                return _replayed(first)
        session.add_all(sends)
        session.flush()
        submit_jobs(submissions, organization_id=sender.organization_id, user_id=owner)
        return [Sent(send.id, _jobs_of(send.id, submissions)) for send in sends]


def _first(owner_id: UUID, idempotency_key: str, news: Sequence[NewSend]) -> Sequence[JobRow] | None:
    with transaction():
        return idempotency.first_jobs(owner_id, idempotency_key, _digest(news))


def _place(number: int, news: Sequence[NewSend]) -> str:
    return "" if len(news) == 1 else f"notifications.{number}."


def _checked(new: NewSend, sender: Sender, place: str) -> NewSend:
    """What is to be written, with the template, buttons and words it will have."""
    try:
        new = _with_template(new, sender.organization_id)
        _check_times(new)
        if len(new.audience.user_ids) > MAXIMUM_USER_IDS:
            raise ValidationFailed(errors={"userIds": [f"Longer than maximum length {MAXIMUM_USER_IDS}."]})
        buttons = buttons_of(new.type, new.actions)
        if new.template is None:
            missing = [name for name in ("title", "message") if not getattr(new, name)]
            if missing:
                raise ValidationFailed(errors={name: ["Give it, or a template."] for name in missing})
        check_audience(sender.organization_id, new.audience)
        _check_asked(sender.organization_id, new.audience, buttons)
        title, message = _listed_words(new, sender.organization_id)
    except CarillonError as error:
        if error.errors is not None and place:
            error.errors = {f"{place}{name}": texts for name, texts in error.errors.items()}
        raise
    # What has passed is no appointment.
    send_at = None if new.send_at is not None and new.send_at <= utcnow() else new.send_at
    return replace(new, title=title, message=message, actions=buttons, send_at=send_at)


def _with_template(new: NewSend, organization_id: UUID) -> NewSend:
    """With the name of the template whose id was given, and its locale where no other is asked for."""
    if new.template_id is None:
        return new
    with transaction() as session:
        found = session.get(NotificationTemplate, new.template_id)
    if found is None or found.organization_id != organization_id or found.deleted_at is not None:
        raise ValidationFailed(errors={"templateId": ["There is no such notification template."]})
    return replace(new, template=found.name, locale=new.locale or found.locale)


def _check_times(new: NewSend) -> None:
    begins = max(utcnow(), new.send_at or utcnow())
    if new.expires_at is not None and new.expires_at <= begins:
        raise ValidationFailed(errors={"expiresAt": ["Must be later than the time it is sent at."]})


def _check_asked(organization_id: UUID, audience: Audience, buttons: Sequence[Mapping[str, Any]] | None) -> None:
    if not any(each["kind"] == ACTION for each in buttons or ()):
        return
    if count_recipients(organization_id, audience, at_most=MAXIMUM_ASKED + 1) > MAXIMUM_ASKED:
        raise ValidationFailed(
            errors={"actions": [f"At most {MAXIMUM_ASKED} recipients can be asked; links may go to more."]}
        )


def _listed_words(new: NewSend, organization_id: UUID) -> tuple[str, str]:
    """Title and message as lists show them; a template has to be able to speak by every channel that is asked for."""
    if new.template is None:
        return new.title or "", new.message or ""
    try:
        check_variables(organization_id, new.template, {*(new.variables or {}), USERNAME})
        spoken = [words_of(organization_id, new.template, new.locale, new.variables, each) for each in new.channels]
    except TemplateNotFound as error:
        raise ValidationFailed(errors={"template": [error.message]}) from None
    return (new.title or spoken[0].subject).replace(ANYBODY, "…"), (new.message or spoken[0].text).replace(ANYBODY, "…")


def _row(new: NewSend, sender: Sender, send_id: UUID) -> NotificationSend:
    return NotificationSend(
        id=send_id,
        organization_id=sender.organization_id,
        sender_id=sender.user_id,
        type=new.type,
        category=new.category,
        title=new.title,
        message=new.message,
        data=dict(new.data),
        actions=None if new.actions is None else [dict(each) for each in new.actions],
        audience=new.audience.json(),
        channels=list(new.channels),
        is_critical=new.is_critical,
        template_name=new.template,
        locale=new.locale,
        variables=None if new.variables is None else dict(new.variables),
        send_at=new.send_at,
        expires_at=new.expires_at,
    )


def _submissions(send: NotificationSend, new: NewSend) -> list[Submission]:
    return [
        Submission(
            id=new_id(),
            type=JOB_TYPES[channel],
            payload={"sendId": str(send.id)},
            run_at=new.send_at,
            notify=False,
            tags=[tag_of(send.id)],
        )
        for channel in new.channels
    ]


def owner_of(sender: Sender) -> UUID:
    """Whose jobs they are; those of the platform itself are an administrator's, or the oldest user's without one."""
    if sender.user_id is not None:
        return sender.user_id
    oldest = (
        select(User.id)
        .where(User.organization_id == sender.organization_id, User.is_active)
        .order_by(User.roles.contains([ADMIN]).desc(), User.id)
        .limit(1)
    )
    with transaction() as session:
        return session.scalars(oldest).one()


def _jobs_of(send_id: UUID, submissions: Sequence[Submission]) -> dict[str, UUID]:
    tag = tag_of(send_id)
    return {CHANNEL_OF[each.type]: each.id for each in submissions if tag in each.tags and each.id is not None}


def _digest(news: Sequence[NewSend]) -> bytes:
    # Only what was said: a version that knows more must not find another body.
    said = [
        {each.name: repr(value) for each in fields(new) if (value := getattr(new, each.name)) != each.default}
        for new in news
    ]
    return hashlib.sha256(json.dumps(["notifications", said]).encode()).digest()


def _replayed(first: Sequence[JobRow]) -> list[Sent]:
    found: dict[UUID, dict[str, UUID]] = {}
    for row in first:
        tag = next(each for each in row["tags"] if each.startswith("send:"))
        found.setdefault(UUID(tag.removeprefix("send:")), {})[CHANNEL_OF[row["type"]]] = UUID(str(row["id"]))
    return [Sent(send_id, jobs, is_replay=True) for send_id, jobs in found.items()]


# The jobs that were submitted with a send, or those that these went on to submit as well.
OF_SEND = """
SELECT id, type, status, parent_id, result::text AS result FROM jobs
WHERE tags @> ARRAY[%(tag)s] AND array_length(tags, 1) IS NOT NULL ORDER BY id
"""


def jobs_of(send_id: UUID) -> Sequence[JobRow]:
    """All jobs of a send that are still kept: id, type, status, parent_id, result as text."""
    with transaction():
        return fetch_all(OF_SEND, {"tag": tag_of(send_id)})


def _known(send_id: UUID) -> Sent | None:
    with transaction() as session:
        if session.get(NotificationSend, send_id) is None:
            return None
        rows = [row for row in jobs_of(send_id) if row["parent_id"] is None]
        return Sent(send_id, {CHANNEL_OF[row["type"]]: UUID(str(row["id"])) for row in rows}, is_replay=True)


CALL_OFF = """
UPDATE channel_messages SET status = 'suppressed', reason = 'cancelled', next_attempt_at = NULL
WHERE send_id = %(send_id)s AND status IN ('pending', 'held')
"""


def cancel_send(send_id: UUID) -> None:
    """Cancel what has not been sent: jobs that wait or run, messages that are held. Raises SendNotCancellable."""
    with transaction() as session:
        # First: what is being planned meanwhile is waited for, and nothing more is planned.
        session.execute(update(NotificationSend).where(NotificationSend.id == send_id).values(cancelled_at=utcnow()))
        cancelled = cancel_jobs([UUID(str(row["id"])) for row in jobs_of(send_id)], "The notification was cancelled.")
        with_messages = fetch_all(f"{CALL_OFF} RETURNING id", {"send_id": str(send_id)})
        if not cancelled and not with_messages:
            raise SendNotCancellable
