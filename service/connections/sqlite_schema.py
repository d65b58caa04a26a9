"""What SQLAlchemy overlooks in SQLite, where it reads constraints from the text of a table rather than from pragmas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection as OpenConnection


def is_automatic(index: Mapping[str, Any]) -> bool:
    """Whether SQLite made an index by itself, for a constraint's sake."""
    return str(index["name"]).startswith("sqlite_autoindex_")


def overlooked_constraints(indexes: Sequence[Mapping[str, Any]], known: Sequence[list[str]]) -> list[dict[str, Any]]:
    """The unique constraints, by their automatic indexes, on other columns than those of `known`."""
    return [
        {"name": None, "column_names": index["column_names"]}
        for index in indexes
        if is_automatic(index) and index["column_names"] not in known
    ]


def add_actions(connection: OpenConnection, foreign_keys: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    """Give the foreign keys of each table their ON DELETE and ON UPDATE."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    for table, keys in foreign_keys.items():
        if not keys:
            continue
        actions: dict[tuple[str, tuple[str, ...]], dict[str, str | None]] = {}
        columns: dict[int, list[str]] = {}
        # Rows are (id, sequence, table, from, to, on update, on delete, match), one a column.
        rows = connection.exec_driver_sql(f"PRAGMA main.foreign_key_list({quote(table)})").all()
        for number, _, _, column, *_ in sorted(rows, key=lambda row: (row[0], row[1])):
            columns.setdefault(number, []).append(column)
        for number, _, referred, _, _, on_update, on_delete, _ in rows:
            options = {"onupdate": _spoken(on_update), "ondelete": _spoken(on_delete)}
            actions[referred, tuple(columns[number])] = options
        for key in keys:
            key["options"] = actions.get((key["referred_table"], tuple(key["constrained_columns"])), {})


def _spoken(action: str) -> str | None:
    return None if action == "NO ACTION" else action
