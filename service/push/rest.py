"""`/api/push`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response, request
from flask_smorest import Blueprint

from service.accounts.identity import current_identity
from service.push import actions, queries
from service.push.keys import public_key
from service.push.representation import subscription_json
from service.push.schemas import (
    EndpointSchema,
    KeySchema,
    NewSubscriptionSchema,
    SubscriptionListSchema,
    SubscriptionSchema,
)
from service.web import json_answer

blueprint = Blueprint("push", __name__, url_prefix="/api/push", description="Browsers that take pushes")


@blueprint.route("/key", methods=["GET"])
@blueprint.response(200, KeySchema)
def get_key() -> Response:
    """Read the key that a browser's subscription is made with."""
    return json_answer({"publicKey": public_key()})


@blueprint.route("/subscriptions", methods=["GET"])
@blueprint.response(200, SubscriptionListSchema)
def list_subscriptions() -> Response:
    """List your browsers that take pushes, the newest first."""
    found = queries.subscriptions_of(current_identity().user_id)
    return json_answer({"data": [subscription_json(each) for each in found]})


@blueprint.route("/subscriptions", methods=["POST"])
@blueprint.arguments(NewSubscriptionSchema)
@blueprint.response(201, SubscriptionSchema)
def subscribe(body: dict[str, Any]) -> Response:
    """Have this browser take your pushes; with more than twenty the oldest goes."""
    user_agent = request.user_agent.string or None
    subscription = actions.subscribe(current_identity().user_id, body["endpoint"], body["keys"], user_agent)
    return json_answer(subscription_json(subscription), 201)


@blueprint.route("/subscriptions", methods=["DELETE"])
@blueprint.arguments(EndpointSchema)
@blueprint.response(204)
def unsubscribe_browser(body: dict[str, Any]) -> None:
    """Have this browser take no more pushes."""
    actions.unsubscribe(current_identity().user_id, endpoint=body["endpoint"])


@blueprint.route("/subscriptions/<uuid:subscription_id>", methods=["DELETE"])
@blueprint.response(204)
def unsubscribe(subscription_id: UUID) -> None:
    """Have one of your browsers take no more pushes."""
    actions.unsubscribe(current_identity().user_id, subscription_id=subscription_id)
