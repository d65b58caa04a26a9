"""Pages of lists: `?page=&limit=` or `?cursor=&limit=` in, `{data, pagination}` out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

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


class LongListArguments(PageArguments):
    """The query arguments of a list that can be long: pages by number, or from where the last page ended."""

    cursor = ma.fields.UUID(
        load_default=None,
        metadata={"description": "`nextCursor` of the page before; costs the same however far down the list"},
    )


class PaginationSchema(ma.Schema):
    """Where a page lies in its list; after a cursor nothing is counted."""

    page = ma.fields.Integer(required=True, allow_none=True)
    limit = ma.fields.Integer(required=True)
    total = ma.fields.Integer(required=True, allow_none=True)
    totalPages = ma.fields.Integer(required=True, allow_none=True)
    nextCursor = ma.fields.UUID(
        allow_none=True, metadata={"description": "Only of long lists; null after the last page"}
    )


@dataclass(frozen=True)
class Page:
    """Which page, counted from 1, or what follows the row `cursor`, and how many rows on it."""

    number: int
    limit: int
    cursor: UUID | None = None

    @classmethod
    def taken_from(cls, arguments: dict[str, Any]) -> Page:
        """The page that loaded query arguments ask for; takes them out, so that the filters are left."""
        return cls(arguments.pop("page"), arguments.pop("limit"), arguments.pop("cursor", None))

    @property
    def offset(self) -> int:
        """Rows before this page."""
        return (self.number - 1) * self.limit


def paginate(query: Select[Any], page: Page, represent: Callable[[Any], Any]) -> dict[str, Any]:
    """`{data, pagination}` of an ordered query of one entity."""
    rows = db.session.scalars(query.limit(page.limit).offset(page.offset)).all()
    return {"data": [represent(row) for row in rows], "pagination": _by_number(page, _count(query))}


@dataclass(frozen=True)
class LongList:
    """A list in the order of its ids, of which a page is read by number or after a cursor."""

    query: Select[Any]
    id_column: Any
    newest_first: bool = True

    def read(
        self, page: Page, represent: Callable[[Any], dict[str, Any]], columns: Sequence[Any] | None = None
    ) -> dict[str, Any]:
        """`{data, pagination}` of a page; each row goes to `represent`, as a mapping where `columns` are given."""
        query = self.query.order_by(self.id_column.desc() if self.newest_first else self.id_column)
        if page.cursor is not None:
            after = self.id_column < page.cursor if self.newest_first else self.id_column > page.cursor
            query = query.where(after)
        else:
            query = query.offset(page.offset)
        query = query.limit(page.limit)
        if columns is None:
            rows: Sequence[Any] = db.session.scalars(query).all()
        else:
            rows = [dict(row) for row in db.session.execute(query.with_only_columns(*columns)).mappings()]
        data = [represent(row) for row in rows]
        where = (
            {"page": None, "limit": page.limit, "total": None, "totalPages": None}
            if page.cursor is not None
            else _by_number(page, _count(self.query))
        )
        next_cursor = data[-1]["id"] if len(data) == page.limit else None
        return {"data": data, "pagination": {**where, "nextCursor": next_cursor}}


def _count(query: Select[Any]) -> int:
    return db.session.scalar(select(func.count()).select_from(query.order_by(None).subquery())) or 0


def _by_number(page: Page, total: int) -> dict[str, Any]:
    return {
        "page": page.number,
        "limit": page.limit,
        "total": total,
        "totalPages": -(-total // page.limit),
    }
