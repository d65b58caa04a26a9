"""`/api/auth` and `/api/admin/users`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response, request
from flask_smorest import Blueprint

from service.accounts import actions, password_resets, queries, sessions
from service.accounts.identity import current_identity, public, requires_role
from service.accounts.representation import account_json, user_json
from service.accounts.roles import ADMIN
from service.accounts.schemas import (
    AccountChangeSchema,
    AccountSchema,
    ForgotAnswerSchema,
    ForgotSchema,
    LoginSchema,
    RefreshSchema,
    RegistrationSchema,
    ResetSchema,
    SessionSchema,
    TicketSchema,
    UserChangeSchema,
    UserFilterSchema,
    UserPageSchema,
    UserSchema,
)
from service.accounts.tickets import TICKET_SECONDS, issue_ticket
from service.pagination import Page
from service.web import json_answer

blueprint = Blueprint("accounts", __name__, url_prefix="/api", description="Accounts and sessions")


@blueprint.route("/auth/register", methods=["POST"])
@public
@blueprint.doc(security=[])
@blueprint.arguments(RegistrationSchema)
@blueprint.response(201, AccountSchema)
def register(body: dict[str, Any]) -> Response:
    """Make an account for yourself."""
    return json_answer(account_json(actions.register_user(**body)), 201)


@blueprint.route("/auth/login", methods=["POST"])
@public
@blueprint.doc(security=[])
@blueprint.arguments(LoginSchema)
@blueprint.response(200, SessionSchema)
def log_in(body: dict[str, Any]) -> Response:
    """Log in by user name or e-mail address."""
    return _session_answer(sessions.log_in(body["username"], body["password"], request.remote_addr))


@blueprint.route("/auth/refresh", methods=["POST"])
@public
@blueprint.doc(security=[])
@blueprint.arguments(RefreshSchema)
@blueprint.response(200, SessionSchema)
def refresh(body: dict[str, Any]) -> Response:
    """Change a refresh token for new tokens; using one twice ends the session."""
    return _session_answer(sessions.refresh(body["refresh_token"]))


@blueprint.route("/auth/logout", methods=["POST"])
@public
@blueprint.doc(security=[])
@blueprint.arguments(RefreshSchema)
@blueprint.response(204)
def log_out(body: dict[str, Any]) -> None:
    """End the session of a refresh token; the access token runs out by itself."""
    sessions.log_out(body["refresh_token"])


@blueprint.route("/auth/stream-ticket", methods=["POST"])
@blueprint.response(201, TicketSchema)
def get_ticket() -> Response:
    """Get a ticket that opens one stream within 30 seconds, as `?ticket=`: a browser's EventSource sends no header."""
    answer = {"ticket": issue_ticket(current_identity().claims), "expiresIn": TICKET_SECONDS}
    return json_answer(answer, 201, {"Cache-Control": "no-store"})


@blueprint.route("/auth/me", methods=["GET"])
@blueprint.response(200, AccountSchema)
def get_account() -> Response:
    """Read your own account."""
    return json_answer(account_json(queries.own_user(current_identity())))


@blueprint.route("/auth/me", methods=["PATCH"])
@blueprint.arguments(AccountChangeSchema)
@blueprint.response(200, AccountSchema)
def update_account(body: dict[str, Any]) -> Response:
    """Change your own account; null takes the phone number or the webhook URL away."""
    return json_answer(account_json(actions.update_account(current_identity(), body)))


@blueprint.route("/auth/password/forgot", methods=["POST"])
@public
@blueprint.doc(security=[])
@blueprint.arguments(ForgotSchema)
@blueprint.response(202, ForgotAnswerSchema)
def forgot_password(body: dict[str, Any]) -> Response:
    """Ask for a link to set a new password; the answer does not tell whether the address is known."""
    password_resets.forgot_password(body["email"])
    return json_answer({"message": "If the address is known, a mail with a link is on its way."}, 202)


@blueprint.route("/auth/password/reset", methods=["POST"])
@public
@blueprint.doc(security=[])
@blueprint.arguments(ResetSchema)
@blueprint.response(204)
def reset_password(body: dict[str, Any]) -> None:
    """Set a new password with the token of the link; all sessions of the user end."""
    password_resets.reset_password(body["token"], body["password"])


@blueprint.route("/admin/users", methods=["GET"])
@requires_role(ADMIN)
@blueprint.arguments(UserFilterSchema, location="query")
@blueprint.response(200, UserPageSchema)
def list_users(arguments: dict[str, Any]) -> Response:
    """List the users of your organization."""
    page = Page.taken_from(arguments)
    return json_answer(queries.list_users(current_identity().organization_id, page, **arguments))


@blueprint.route("/admin/users/<uuid:user_id>", methods=["PATCH"])
@requires_role(ADMIN)
@blueprint.arguments(UserChangeSchema)
@blueprint.response(200, UserSchema)
def change_user(body: dict[str, Any], user_id: UUID) -> Response:
    """Change the roles of a user, or (de)activate one; access tokens in use keep their roles until they run out."""
    return json_answer(user_json(actions.change_user(current_identity(), user_id, **body)))


def _session_answer(session: sessions.Session) -> Response:
    return json_answer(
        {
            "accessToken": session.access_token,
            "refreshToken": session.refresh_token,
            "expiresIn": session.expires_in,
            "user": account_json(session.user),
        },
        headers={"Cache-Control": "no-store"},
    )
