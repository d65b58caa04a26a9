"""Who wants which notifications by which channel, and when: the user's word, else the tenant's, else the platform's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert

from service.accounts.identity import Identity
from service.accounts.models import User
from service.audit.actions import record
from service.clock import utcnow
from service.database import db, transaction
from service.errors import CarillonError, NotFound, ValidationFailed
from service.ids import derived_id
from service.notifications.models import ChannelMessage, NotificationDefault, NotificationPreference
from service.settings import current_settings

IN_APP, EMAIL, WHATSAPP, PUSH = "in_app", "email", "whatsapp", "push"
CHANNELS = (IN_APP, EMAIL, WHATSAPP, PUSH)
DIGESTS = ("none", "hourly", "daily")

# S1, "Default preferences for new users": (type, channel, enabled).
DEFAULT_PREFERENCES = (
    ("job_status", IN_APP, True),
    ("job_status", EMAIL, True),
    ("invitations", IN_APP, True),
    ("invitations", EMAIL, True),
    ("system", IN_APP, True),
    ("system", EMAIL, False),
)
# What else the platform tells of its own accord, unless it is told not to.
WEBHOOKS, APPROVALS, ALERTS = "webhooks", "approvals", "alerts"
# What it tells at all, by both of its channels.
KNOWN = (
    *((type_, channel) for type_, channel, _ in DEFAULT_PREFERENCES),
    *((type_, channel) for type_ in (WEBHOOKS, APPROVALS, ALERTS) for channel in (IN_APP, EMAIL)),
)
# Types that a user may have preferences for; those that the platform tells he may in any case.
MAXIMUM_TYPES = 100


class PreferenceNotFound(NotFound):
    """There is no such preference."""

    code = "preference_not_found"


class CriticalType(CarillonError):
    """Notifications of this type cannot be muted."""

    code, status = "critical_type", 422


def decision(
    channel: str,
    notification_type: str,
    is_critical: str = "false",
    *,
    at: str = "%(now)s::timestamptz",
    needs_device: str = "true",
) -> str:
    """What becomes of a message that could leave now, as a query of one row; for `CROSS JOIN LATERAL (…) AS decision`.

    The arguments are SQL over the rows around it, of which `recipient` is one of `users`; `is_critical`: nothing holds
    the message back (see `is_critical_type`); `needs_device`: a push goes to subscribed browsers only. Its columns:
    `status` ('pending', 'held', 'suppressed'), `reason` ('muted', 'no_address', 'no_device', 'quiet_hours', 'digest'
    or null), `digest` ('hourly', 'daily' or null), `next_attempt_at` (null where it is suppressed) and `address`
    (null for push and the inbox).
    """
    # The offsets keep the planner from writing each expression out wherever it is used.
    return f"""
    SELECT
        CASE WHEN refusal IS NOT NULL THEN 'suppressed' WHEN held_until IS NULL THEN 'pending' ELSE 'held' END
            AS status,
        CASE WHEN refusal IS NOT NULL THEN refusal WHEN held_until IS NULL THEN NULL
            WHEN digest IS NULL THEN 'quiet_hours' ELSE 'digest' END AS reason,
        CASE WHEN refusal IS NULL THEN digest END AS digest,
        CASE WHEN refusal IS NULL THEN coalesce(held_until, {at}) END AS next_attempt_at,
        address
    FROM (SELECT asked.address, asked.digest,
            CASE
                WHEN NOT asked.is_wanted THEN 'muted'
                WHEN {channel} IN ('email', 'whatsapp') AND asked.address IS NULL THEN 'no_address'
                WHEN {channel} = 'push' AND {needs_device}
                    AND NOT EXISTS (SELECT FROM push_subscriptions WHERE user_id = recipient.id) THEN 'no_device'
            END AS refusal,
            CASE WHEN {channel} = 'in_app' OR {is_critical} THEN NULL
                ELSE coalesce(quiet_until(coalesce(asked.digest_at, {at}), recipient.timezone, recipient.quiet_hours),
                    asked.digest_at)
            END AS held_until
        FROM (SELECT
                CASE {channel} WHEN 'email' THEN nullif(recipient.email, '')
                    WHEN 'whatsapp' THEN nullif(recipient.phone, '') END AS address,
                {is_critical} OR coalesce(preference.enabled,
                    (SELECT enabled FROM notification_defaults WHERE organization_id = recipient.organization_id
                        AND notification_type = {notification_type} AND channel = {channel}),
                    NOT ({notification_type} = 'system' AND {channel} = 'email')) AS is_wanted,
                CASE WHEN NOT {is_critical} AND {channel} <> 'in_app' THEN nullif(preference.digest, 'none') END
                    AS digest,
                CASE WHEN {is_critical} OR {channel} = 'in_app' THEN NULL
                    ELSE digest_at({at}, recipient.timezone, nullif(preference.digest, 'none')) END AS digest_at
            FROM (SELECT) AS one LEFT JOIN notification_preferences AS preference
                ON preference.user_id = recipient.id AND preference.notification_type = {notification_type}
                AND preference.channel = {channel} OFFSET 0) AS asked OFFSET 0) AS held
    """


def is_critical_type(notification_type: str) -> bool:
    """Whether notifications of a type go out at any hour and cannot be muted."""
    return notification_type in current_settings().critical_notification_types


def write_default_preferences(user: User) -> None:
    """Give a new user the preferences of S1, as far as his tenant says nothing else."""
    with transaction() as session:
        given = _given(user.organization_id)
        session.add_all(
            NotificationPreference(
                user_id=user.id,
                notification_type=type_,
                channel=channel,
                enabled=given.get((type_, channel), enabled),
            )
            for type_, channel, enabled in DEFAULT_PREFERENCES
        )


def _given(organization_id: UUID) -> dict[tuple[str, str], bool]:
    """What a tenant has defaults for, by type and channel, and whether they are on."""
    defaults = select(NotificationDefault).where(NotificationDefault.organization_id == organization_id)
    return {(each.notification_type, each.channel): each.enabled for each in db.session.scalars(defaults)}


def preference_json(preference: NotificationPreference, *, is_inherited: bool = False) -> dict[str, Any]:
    """A preference; `is_inherited`: what holds where the user has none."""
    return {
        "id": str(preference.id),
        "notificationType": preference.notification_type,
        "channel": preference.channel,
        "enabled": preference.enabled,
        "digest": preference.digest,
        "isCritical": is_critical_type(preference.notification_type),
        "isInherited": is_inherited,
    }


def preferences_of(identity: Identity) -> list[dict[str, Any]]:
    """The preferences of a user, and what holds for what the platform tells and he has none for; in a stable order."""
    with transaction():
        chosen = [preference_json(each) for each in _chosen(identity.user_id)]
        inherited = [preference_json(each, is_inherited=True) for each in _inherited(identity)]
    return sorted([*chosen, *inherited], key=lambda each: (each["notificationType"], each["channel"]))


def _chosen(user_id: UUID) -> Sequence[NotificationPreference]:
    return db.session.scalars(select(NotificationPreference).where(NotificationPreference.user_id == user_id)).all()


def _inherited(identity: Identity) -> list[NotificationPreference]:
    """Rows that are not there: as they would be if the user chose what holds without them, with ids to change them by.

    Of what the platform tells and what his tenant has a default for.
    """
    chosen = {(each.notification_type, each.channel) for each in _chosen(identity.user_id)}
    given = _given(identity.organization_id)
    return [
        NotificationPreference(
            id=_id_of(identity.user_id, type_, channel),
            user_id=identity.user_id,
            notification_type=type_,
            channel=channel,
            enabled=is_critical_type(type_) or given.get((type_, channel), (type_, channel) != ("system", EMAIL)),
            digest="none",
        )
        for type_, channel in {*KNOWN, *given} - chosen
    ]


def _id_of(user_id: UUID, notification_type: str, channel: str) -> UUID:
    """The same before there is a row, so that a client may keep it."""
    return derived_id(user_id, f"{notification_type} {channel}")


def change_preference(preference_id: UUID, identity: Identity, changes: Mapping[str, Any]) -> NotificationPreference:
    """Set `enabled` or `digest` of a preference, or of what holds where there is none.

    Raises PreferenceNotFound (other people's are not found either), CriticalType, or ValidationFailed for a digest of
    the inbox.
    """
    with transaction() as session:
        preference = session.get(NotificationPreference, preference_id, with_for_update=True)
        if preference is None:
            # Two who choose at once do not undo each other: the second finds the row of the first.
            _lock(identity.user_id)
            preference = session.get(NotificationPreference, preference_id, with_for_update=True)
        if preference is None:
            return _choose(preference_id, identity, changes)
        if preference.user_id != identity.user_id:
            raise PreferenceNotFound
        _check(preference.notification_type, preference.channel, changes)
        for name, value in changes.items():
            setattr(preference, name, value)
        session.flush()
        _forget_held(preference)
    return preference


def _choose(preference_id: UUID, identity: Identity, changes: Mapping[str, Any]) -> NotificationPreference:
    before = next((each for each in _inherited(identity) if each.id == preference_id), None)
    if before is None:
        raise PreferenceNotFound
    return _put(identity.user_id, before.notification_type, before.channel, {"enabled": before.enabled, **changes})


def put_preference(
    user_id: UUID, notification_type: str, channel: str, changes: Mapping[str, Any]
) -> NotificationPreference:
    """Set `enabled`, and `digest` where it is given, for a type that may have no preference yet.

    Raises CriticalType, or ValidationFailed for a digest of the inbox, or for one type too many.
    """
    with transaction():
        _check_room(user_id, notification_type)
        return _put(user_id, notification_type, channel, changes)


def _check_room(user_id: UUID, notification_type: str) -> None:
    """Whether a user may have a preference for a type; his row is locked where that is to be counted."""
    type_ = NotificationPreference.notification_type
    mine = NotificationPreference.user_id == user_id
    with transaction() as session:
        if notification_type in {known for known, _ in KNOWN}:
            return
        if session.scalar(select(NotificationPreference.id).where(mine, type_ == notification_type).limit(1)):
            return
        _lock(user_id)
        if (session.scalar(select(func.count(type_.distinct())).where(mine)) or 0) >= MAXIMUM_TYPES:
            raise ValidationFailed(errors={"notificationType": [f"There are {MAXIMUM_TYPES} types already."]})


def _lock(user_id: UUID) -> None:
    """Let nobody else write a preference of a user until the present transaction has ended."""
    db.session.execute(select(User.id).where(User.id == user_id).with_for_update(key_share=True))


def _put(user_id: UUID, notification_type: str, channel: str, changes: Mapping[str, Any]) -> NotificationPreference:
    _check(notification_type, channel, changes)
    values = {"user_id": user_id, "notification_type": notification_type, "channel": channel, **changes}
    statement = (
        insert(NotificationPreference)
        .values(id=_id_of(user_id, notification_type, channel), updated_at=utcnow(), **values)
        .on_conflict_do_update(
            index_elements=["user_id", "notification_type", "channel"], set_={**changes, "updated_at": utcnow()}
        )
        .returning(NotificationPreference)
    )
    with transaction() as session:
        # Two who write the same row at once would meet at its id, which is not what the statement looks for.
        _lock(user_id)
        preference = session.scalars(statement, execution_options={"populate_existing": True}).one()
        _forget_held(preference)
    return preference


def set_preference_of(user_id: UUID, notification_type: str, channel: str, enabled: bool) -> None:
    """Switch a type of a user on or off for a channel, as a link in a mail does; raises CriticalType.

    However many types he has preferences for: what comes by mail can be muted.
    """
    _put(user_id, notification_type, channel, {"enabled": enabled})


def _check(notification_type: str, channel: str, changes: Mapping[str, Any]) -> None:
    if is_critical_type(notification_type) and changes.get("enabled") is False:
        raise CriticalType
    if channel == IN_APP and changes.get("digest", "none") != "none":
        raise ValidationFailed(errors={"digest": ["The inbox gathers nothing: everything is in it at once."]})


def _forget_held(preference: NotificationPreference) -> None:
    """What waits for its hour is not sent any more once it is muted."""
    if preference.enabled:
        return
    with transaction() as session:
        session.execute(
            update(ChannelMessage)
            .where(
                ChannelMessage.user_id == preference.user_id,
                ChannelMessage.channel == preference.channel,
                ChannelMessage.notification_type == preference.notification_type,
                ChannelMessage.status == "held",
            )
            .values(status="suppressed", reason="muted", next_attempt_at=None)
        )


def defaults_of(organization_id: UUID) -> list[dict[str, Any]]:
    """What a tenant's users get where they have no preference of their own, in a stable order."""
    query = select(NotificationDefault).where(NotificationDefault.organization_id == organization_id)
    order = (NotificationDefault.notification_type, NotificationDefault.channel)
    return [default_json(each) for each in db.session.scalars(query.order_by(*order))]


def default_json(default: NotificationDefault) -> dict[str, Any]:
    """A tenant's default."""
    return {"notificationType": default.notification_type, "channel": default.channel, "enabled": default.enabled}


def put_default(organization_id: UUID, notification_type: str, channel: str, enabled: bool) -> NotificationDefault:
    """Say what a tenant's users get where they have no preference of their own; raises CriticalType."""
    _check(notification_type, channel, {"enabled": enabled})
    key = {"organization_id": organization_id, "notification_type": notification_type, "channel": channel}
    statement = (
        insert(NotificationDefault)
        .values(enabled=enabled, **key)
        .on_conflict_do_update(index_elements=list(key), set_={"enabled": enabled})
        .returning(NotificationDefault)
    )
    with transaction() as session:
        default = session.scalars(statement, execution_options={"populate_existing": True}).one()
        record(
            "notification_default.set",
            "organization",
            organization_id,
            {"notificationType": notification_type, "channel": channel, "enabled": enabled},
        )
    return default
