"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A section with a table whose columns also line up in a terminal; the first is aligned to the left."""
    cells = [list(head), *[list(row) for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        first, *others = row
        aligned = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        return f"| {' | '.join(aligned)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        [
            f"## {title}",
            "",
            line(cells[0]),
            f"|{'|'.join(f' {each} ' for each in rule)}|",
            *(line(row) for row in cells[1:]),
            "",
            "",
        ]
    )
