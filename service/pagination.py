"""Pages of lists: `?page=&limit=` or `?cursor=&limit=` in, `{data, pagination}` out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import marshmallow as ma
from psycopg2.errors import QueryCanceled
from sqlalchemy import ClauseElement, Executable, Select, func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from service.database import db
from service.errors import ValidationFailed

MAXIMUM_LIMIT = 100
# OFFSET costs what it skips; beyond this a client filters instead.
MAXIMUM_PAGE = 100_000
# What PostgreSQL may expect a count to cost, in its own units: some 20 ms. Beyond this its estimate has to do.
COUNTED_COST = 5_000.0
# A search for what is hardly there reads the whole list.
READING_SECONDS = 5.0


class SearchTooBroad(ValidationFailed):
    """Too many rows would have to be searched: narrow it down, for example to a shorter time."""

    code = "search_too_broad"


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
    totalIsEstimate = ma.fields.Boolean(
        metadata={"description": "Only there, and true, where the list is too long to be counted: about so many"}
    )
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
        """`{data, pagination}` of a page; each row goes to `represent`, as a mapping where `columns` are given.

        Raises SearchTooBroad.
        """
        with _in_time():
            query = self._page_of(page)
            if columns is None:
                rows: Sequence[Any] = db.session.scalars(query).all()
            else:
                rows = [dict(row) for row in db.session.execute(query.with_only_columns(*columns)).mappings()]
            if page.cursor is None:
                total, is_estimate = self._total(page, len(rows))
                where = _by_number(page, total) | ({"totalIsEstimate": True} if is_estimate else {})
            else:
                where = {"page": None, "limit": page.limit, "total": None, "totalPages": None}
        data = [represent(row) for row in rows]
        next_cursor = data[-1]["id"] if len(data) == page.limit else None
        return {"data": data, "pagination": {**where, "nextCursor": next_cursor}}

    def _page_of(self, page: Page) -> Select[Any]:
        # The ids first: mostly an index alone knows them, and what is skipped is never looked at. It also keeps
        # PostgreSQL from going through everybody's newest rows where one user has most of the table.
        order = self.id_column.desc() if self.newest_first else self.id_column
        ids = self._ids().order_by(order).limit(page.limit)
        if page.cursor is None:
            ids = ids.offset(page.offset)
        else:
            ids = ids.where(self.id_column < page.cursor if self.newest_first else self.id_column > page.cursor)
        return self.query.where(self.id_column.in_(ids.correlate(None))).order_by(order)

    def _ids(self) -> Select[Any]:
        return self.query.with_only_columns(self.id_column, maintain_column_froms=True)

    def _total(self, page: Page, shown: int) -> tuple[int, bool]:
        """How many rows the list has, and whether that is an estimate."""
        if shown < page.limit and (shown or page.number == 1):
            return page.offset + shown, False
        plan = _plan(self._ids())
        if plan["Total Cost"] <= COUNTED_COST:
            return _count(self._ids()), False
        # Two digits: nobody takes it for a count, and it does not change from one reading to the next.
        return max(int(float(f"{plan['Plan Rows']:.1e}")), page.offset + shown), True


@contextmanager
def _in_time() -> Iterator[None]:
    db.session.execute(text(f"SET LOCAL statement_timeout = {READING_SECONDS * 1000:.0f}"))
    try:
        yield
    except OperationalError as error:
        if isinstance(error.orig, QueryCanceled):
            raise SearchTooBroad from None
        raise


class _Explain(Executable, ClauseElement):
    inherit_cache = False

    def __init__(self, statement: Select[Any]) -> None:
        self.statement = statement


@compiles(_Explain)
def _compile_explain(element: _Explain, compiler: SQLCompiler, **options: Any) -> str:
    return f"EXPLAIN (FORMAT JSON) {compiler.process(element.statement, **options)}"


def _plan(query: Select[Any]) -> dict[str, Any]:
    """How PostgreSQL would run a query: `{Total Cost, Plan Rows, …}`."""
    plan: dict[str, Any] = db.session.execute(_Explain(query)).scalar_one()[0]["Plan"]
    return plan


def _count(query: Select[Any]) -> int:
    return db.session.scalar(select(func.count()).select_from(query.order_by(None).subquery())) or 0


def _by_number(page: Page, total: int) -> dict[str, Any]:
    return {
        "page": page.number,
        "limit": page.limit,
        "total": total,
        "totalPages": -(-total // page.limit),
    }
