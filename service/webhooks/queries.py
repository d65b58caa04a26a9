"""Reads of endpoints and deliveries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from redis.exceptions import RedisError
from sqlalchemy import ColumnElement, Select, case, func, not_, or_, select

from service.accounts.identity import Identity
from service.clock import utcnow
from service.database import db
from service.errors import NotAllowed
from service.ids import first_id_at
from service.pagination import LongList, Page, paginate
from service.webhooks.catalogue import TYPES
from service.webhooks.circuits import read_circuits
from service.webhooks.errors import DeliveryNotFound, WebhookNotFound
from service.webhooks.models import Webhook, WebhookAttempt, WebhookDelivery, WebhookOldSecret
from service.webhooks.representation import endpoint_json, entry_json

# Bytes of a body that a list still shows: a result may have megabytes, and is sent up to eight times.
LISTED_BODY_LIMIT = 4096
UNENDED = ("pending", "delivering")


def own_webhook(webhook_id: UUID, identity: Identity) -> Webhook:
    """An endpoint of the user; raises WebhookNotFound across tenants, NotAllowed within one."""
    webhook = db.session.get(Webhook, webhook_id)
    if webhook is None or webhook.organization_id != identity.organization_id:
        raise WebhookNotFound
    if webhook.user_id != identity.user_id:
        raise NotAllowed
    return webhook


def own_delivery(delivery_id: UUID, identity: Identity) -> WebhookDelivery:
    """A delivery to an endpoint of the user; raises DeliveryNotFound across tenants, NotAllowed within one."""
    delivery = db.session.get(WebhookDelivery, delivery_id)
    if delivery is None or delivery.organization_id != identity.organization_id:
        raise DeliveryNotFound
    if delivery.user_id != identity.user_id:
        raise NotAllowed
    return delivery


def webhook_json(webhook: Webhook) -> dict[str, Any]:
    """An endpoint without its secret and without the values of its headers."""
    return _webhooks_json([webhook])[0]


def list_webhooks(identity: Identity, page: Page) -> dict[str, Any]:
    """A page of the user's endpoints, newest first."""
    query = select(Webhook).where(Webhook.user_id == identity.user_id).order_by(Webhook.id.desc())
    listed = paginate(query, page, lambda webhook: webhook)
    return {**listed, "data": _webhooks_json(listed["data"])}


def _webhooks_json(webhooks: Sequence[Webhook]) -> list[dict[str, Any]]:
    ids = [webhook.id for webhook in webhooks]
    circuits, old_secrets = _circuits(ids), _old_secrets(ids)
    return [endpoint_json(each, circuits.get(str(each.id)), old_secrets.get(each.id)) for each in webhooks]


def _circuits(webhook_ids: Sequence[UUID]) -> Mapping[str, Mapping[str, Any]]:
    try:
        return read_circuits(webhook_ids)
    except RedisError:
        return {}


def _old_secrets(webhook_ids: Sequence[UUID]) -> Mapping[UUID, datetime]:
    """Until when secrets that were exchanged sign too, by endpoint."""
    query = (
        select(WebhookOldSecret.webhook_id, func.max(WebhookOldSecret.valid_until))
        .where(WebhookOldSecret.webhook_id.in_(webhook_ids), WebhookOldSecret.valid_until > utcnow())
        .group_by(WebhookOldSecret.webhook_id)
    )
    return {row[0]: row[1] for row in db.session.execute(query)}


@dataclass(frozen=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries; None means any. `code` is a status code, `5xx` and its like, or `none` for no answer."""

    status: str | None = None
    code: str | None = None
    event_type: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same in SQL."""
        conditions = []
        if self.status is not None:
            conditions.append(_has_status(self.status))
        if self.code is not None:
            conditions.append(_has_code(self.code))
        if self.event_type is not None:
            conditions.append(WebhookDelivery.event_type == TYPES[self.event_type])
        # An id holds the time of its event.
        if self.since is not None:
            conditions.append(WebhookDelivery.id >= first_id_at(self.since))
        if self.until is not None:
            conditions.append(WebhookDelivery.id < first_id_at(self.until))
        return conditions


def _has_status(status: str) -> ColumnElement[bool]:
    condition = WebhookDelivery.status == status
    if status in UNENDED:
        # Either is true; said so, the indexes of what is due and of backlogs know the few there are.
        return condition & or_(not_(WebhookDelivery.in_backlog), WebhookDelivery.in_backlog)
    return condition


def _has_code(code: str) -> ColumnElement[bool]:
    if code == "none":
        is_undelivered = WebhookDelivery.status.in_(["failed", "skipped"])
        return WebhookDelivery.status_code.is_(None) & or_(is_undelivered, *map(_has_status, UNENDED))
    if code.endswith("xx"):
        first = int(code[0]) * 100
        return WebhookDelivery.status_code.between(first, first + 99)
    return WebhookDelivery.status_code == int(code)


def list_deliveries(webhook: Webhook, wanted: DeliveryFilter, page: Page) -> dict[str, Any]:
    """A page of an endpoint's deliveries with their attempts, newest first. Raises SearchTooBroad."""
    small = case((func.pg_column_size(WebhookDelivery.payload) <= LISTED_BODY_LIMIT, WebhookDelivery.payload))
    query = select(WebhookDelivery.id).where(WebhookDelivery.webhook_id == webhook.id, *wanted.conditions())
    columns = [*_COLUMNS, small.label("payload")]
    listed = LongList(query, WebhookDelivery.id).read(page, lambda row: {**row, "id": str(row["id"])}, columns)
    return {**listed, "data": _deliveries_json(listed["data"], LISTED_BODY_LIMIT)}


def delivery_json(delivery_id: UUID) -> dict[str, Any]:
    """A delivery with its attempts as it is now; raises DeliveryNotFound."""
    query: Select[Any] = select(*_COLUMNS, WebhookDelivery.payload).where(WebhookDelivery.id == delivery_id)
    row = db.session.execute(query).one_or_none()
    if row is None:
        raise DeliveryNotFound
    return _deliveries_json([row._asdict()], None)[0]


_COLUMNS = (
    WebhookDelivery.id,
    WebhookDelivery.webhook_id,
    WebhookDelivery.event_type,
    WebhookDelivery.job_id,
    WebhookDelivery.status,
    WebhookDelivery.status_code,
    WebhookDelivery.next_attempt_at,
    WebhookDelivery.created_at,
)


def _deliveries_json(rows: Sequence[Mapping[str, Any]], body_limit: int | None) -> list[dict[str, Any]]:
    attempts: dict[str, list[WebhookAttempt]] = {str(row["id"]): [] for row in rows}
    made = select(WebhookAttempt).where(WebhookAttempt.delivery_id.in_(attempts)).order_by(WebhookAttempt.id)
    for attempt in db.session.scalars(made):
        attempts[str(attempt.delivery_id)].append(attempt)
    return [entry_json(row, attempts[str(row["id"])], body_limit) for row in rows]
