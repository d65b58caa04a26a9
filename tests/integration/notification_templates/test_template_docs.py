"""docs/templates.md against what there is."""

from __future__ import annotations

import re
from pathlib import Path

from service.notification_templates.builtin import BUILTINS
from service.notification_templates.filters import FILTERS, TESTS

PAGE = Path(__file__).parents[3] / "docs" / "templates.md"
ROW = re.compile(r"^\| `(\w+)` \| .+ \| ((?:`\w+` )+)\| ((?:`\w+` )*)\|$", re.MULTILINE)


def listed(cell: str) -> list[str]:
    """The names in a cell."""
    return re.findall(r"`(\w+)`", cell)


def test_the_page_lists_every_message_of_the_platform_with_its_variables() -> None:
    documented = {name: (listed(given), listed(maybe)) for name, given, maybe in ROW.findall(PAGE.read_text())}
    # That of the recipient is said once for all.
    assert all(each.variables[0] == "username" for each in BUILTINS.values())
    assert documented == {each.name: (list(each.variables[1:]), list(each.optional)) for each in BUILTINS.values()}


def test_the_page_lists_every_filter_and_test() -> None:
    page = " ".join(PAGE.read_text().split())
    # Two have a short name beside.
    filters = sorted(FILTERS.keys() - {"d", "e"})
    assert f"the filters `{' '.join(filters)}` and the tests `{' '.join(sorted(TESTS))}`" in page
