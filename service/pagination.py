"""Pages of lists: `?page=&limit=` in, `{data, pagination}` out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import marshmallow as ma
from sqlalchemy import Select, func, select

from service.database import db

MAXIMUM_LIMIT = 100
# OFFSET costs what it skips; beyond this a client filters instead.
MAXIMUM_PAGE = 100_000


class PageArguments(ma.Schema):
    """The query arguments of every list."""

    class Meta:
        """Other arguments belong to the filters of the list."""

        unknown = ma.EXCLUDE

    page = ma.fields.Integer(load_default=1, validate=ma.validate.Range(1, MAXIMUM_PAGE))
    limit = ma.fields.Integer(load_default=20, validate=ma.validate.Range(1, MAXIMUM_LIMIT))


class PaginationSchema(ma.Schema):
    """Where a page lies in its list."""

    page = ma.fields.Integer(required=True)
    limit = ma.fields.Integer(required=True)
    total = ma.fields.Integer(required=True)
    totalPages = ma.fields.Integer(required=True)


@dataclass(frozen=True)
class Page:
    """Which page, counted from 1, and how many rows on it."""

    number: int
    limit: int

    @property
    def offset(self) -> int:
        """Rows before this page."""
        return (self.number - 1) * self.limit


def paginate(query: Select[Any], page: Page, represent: Callable[[Any], Any]) -> dict[str, Any]:
    """`{data, pagination}` of an ordered query of one entity."""
    total = db.session.scalar(select(func.count()).select_from(query.order_by(None).subquery())) or 0
    rows = db.session.scalars(query.limit(page.limit).offset(page.offset)).all()
    return {"data": [represent(row) for row in rows], "pagination": pagination(page, total)}


def pagination(page: Page, total: int) -> dict[str, int]:
    """The `pagination` object of a list answer."""
    return {
        "page": page.number,
        "limit": page.limit,
        "total": total,
        "totalPages": -(-total // page.limit),
    }
