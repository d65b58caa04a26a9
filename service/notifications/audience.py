"""To whom something is sent: users by their ids, by their roles, or the whole tenant; only who is active.

An audience is a condition in SQL and is never a list in Python: whoever sends goes through it in pages by user id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from service.database import Row, fetch_all, fetch_one, transaction
from service.errors import ValidationFailed

# Of one send: who has more to tell names a role, or sends several times.
MAXIMUM_USER_IDS = 1_000
FIRST, LAST = UUID(int=0), UUID(int=2**128 - 1)
# Slices that are cut by one statement.
CUT_AT_ONCE = 100


class EmptyAudience(ValidationFailed):
    """There is nobody to send this to."""

    code = "empty_audience"


@dataclass(frozen=True, kw_only=True)
class Audience:
    """Users of one tenant: those with these ids, those with one of these roles, or everybody."""

    user_ids: Sequence[UUID] = ()
    roles: Sequence[str] = ()
    everybody: bool = False

    @classmethod
    def given(cls, stored: Mapping[str, Any]) -> Audience:
        """The audience that `json` made."""
        user_ids = tuple(UUID(each) for each in stored.get("userIds", ()))
        return cls(user_ids=user_ids, roles=tuple(stored.get("roles", ())), everybody=stored.get("all", False))

    def json(self) -> dict[str, Any]:
        """`{userIds?, roles?, all?}`."""
        said: dict[str, Any] = {}
        if self.user_ids:
            said["userIds"] = [str(each) for each in self.user_ids]
        if self.roles:
            said["roles"] = list(self.roles)
        if self.everybody:
            said["all"] = True
        return said

    @property
    def condition(self) -> str:
        """Which rows of `users` are of it; an index serves each form that can be served by one."""
        return _condition(bool(self.user_ids), bool(self.roles), self.everybody)

    @property
    def parameters(self) -> dict[str, Any]:
        """What `condition` asks for."""
        given: dict[str, Any] = {}
        if not self.everybody and self.user_ids:
            # PostgreSQL's own notation: psycopg2 would send a list of texts.
            given["user_ids"] = "{" + ",".join(str(each) for each in self.user_ids) + "}"
        if not self.everybody and self.roles:
            given["roles"] = list(self.roles)
        return given


@cache
def _condition(by_id: bool, by_role: bool, everybody: bool) -> str:
    if everybody:
        return "true"
    by_ids = "users.id = ANY(%(user_ids)s::uuid[])"
    by_roles = "users.roles && %(roles)s::text[]"
    return " OR ".join([*([by_ids] if by_id else []), *([by_roles] if by_role else [])]) or "false"


def recipients(audience: Audience) -> str:
    """SQL for the rows of `users` of an audience, in a range of ids; ORDER BY and LIMIT are the caller's.

    Its parameters are those of `scope`.
    """
    return f"""
    SELECT users.id, users.organization_id, users.username, users.email, users.phone, users.timezone,
        users.quiet_hours
    FROM users WHERE users.organization_id = %(organization_id)s::uuid AND users.is_active
        AND users.id > %(after)s::uuid AND users.id <= %(until)s::uuid AND ({audience.condition})
    """


def scope(organization_id: UUID, audience: Audience, after: UUID = FIRST, until: UUID = LAST) -> dict[str, Any]:
    """The parameters of `recipients`: a tenant, and the ids above `after` up to and with `until`."""
    return {
        "organization_id": str(organization_id),
        "after": str(after),
        "until": str(until),
        **audience.parameters,
    }


def check_audience(organization_id: UUID, audience: Audience) -> None:
    """Raise ValidationFailed for users that the tenant does not have, EmptyAudience where nobody is left."""
    unknown = _unknown(organization_id, audience.user_ids)
    if unknown:
        raise ValidationFailed(
            errors={f"userIds.{place}": ["There is no such user."] for place in unknown},
        )
    with transaction():
        anybody = fetch_one(f"{recipients(audience)} LIMIT 1", scope(organization_id, audience))
    if anybody is None:
        raise EmptyAudience


def _unknown(organization_id: UUID, user_ids: Sequence[UUID]) -> list[int]:
    if not user_ids:
        return []
    with transaction():
        known = fetch_all(
            "SELECT id FROM users WHERE organization_id = %(organization_id)s AND id = ANY(%(user_ids)s::uuid[])",
            {"organization_id": str(organization_id), **Audience(user_ids=user_ids).parameters},
        )
    there = {str(row["id"]) for row in known}
    return [place for place, user_id in enumerate(user_ids) if str(user_id) not in there]


def count_recipients(
    organization_id: UUID, audience: Audience, after: UUID = FIRST, until: UUID = LAST, at_most: int = 2**31
) -> int:
    """How many there are at present, counted up to `at_most`."""
    statement = f"SELECT count(*) AS count FROM ({recipients(audience)} LIMIT %(limit)s) AS recipient"
    with transaction():
        row: Row | None = fetch_one(statement, {**scope(organization_id, audience, after, until), "limit": at_most})
    return int(row["count"]) if row else 0


def slices(
    organization_id: UUID, audience: Audience, size: int, after: UUID = FIRST, until: UUID = LAST
) -> Iterator[list[tuple[UUID, UUID]]]:
    """The range of ids cut into slices of up to `size` recipients, as (after, until), some hundred at a time."""
    statement = f"""
    SELECT id FROM (SELECT recipient.id, row_number() OVER (ORDER BY recipient.id) AS place
        FROM ({recipients(audience)} ORDER BY users.id LIMIT %(size)s * {CUT_AT_ONCE}) AS recipient) AS numbered
    WHERE place %% %(size)s = 0 ORDER BY id
    """
    while True:
        parameters = {**scope(organization_id, audience, after, until), "size": size}
        with transaction():
            ends = [UUID(str(row["id"])) for row in fetch_all(statement, parameters)]
        if len(ends) < CUT_AT_ONCE:
            # Behind the last cut there may be less than a slice, or nothing.
            ends.append(until)
        yield [(begin, end) for begin, end in zip([after, *ends], ends, strict=False) if begin < end]
        if ends[-1] == until:
            return
        after = ends[-1]
