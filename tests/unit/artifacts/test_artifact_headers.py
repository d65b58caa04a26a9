"""What a download's headers ask for and say."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.artifacts.errors import RangeNotSatisfiable
from service.artifacts.headers import attachment, wanted_range


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=2-4", (2, 3)),
        ("bytes=2-", (2, 8)),
        ("bytes=9-", (9, 1)),
        ("bytes=-3", (7, 3)),
        ("bytes=-10", (0, 10)),
        ("bytes=-999", (0, 10)),
        ("bytes=4-999", (4, 6)),
        ("Bytes= 2-4 ", (2, 3)),
    ],
)
def test_a_part_is_found(header: str, wanted: tuple[int, int]) -> None:
    assert wanted_range(header, 10) == wanted


@pytest.mark.parametrize(
    "header",
    ["", "bytes", "bytes=", "bytes=-", "bytes=4-2", "bytes=a-b", "bytes=0-1,4-5", "lines=0-1", f"bytes=0-{'9' * 400}"],
)
def test_a_range_that_says_nothing_usable_asks_for_all(header: str) -> None:
    assert wanted_range(header, 10) is None


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=10-", 10), ("bytes=10-12", 10), ("bytes=-0", 10), ("bytes=0-", 0)]
)
def test_bytes_that_there_are_not_are_refused(header: str, size: int) -> None:
    with pytest.raises(RangeNotSatisfiable):
        wanted_range(header, size)


@given(st.text(max_size=40), st.integers(0, 50))
def test_no_range_leads_out_of_the_file(header: str, size: int) -> None:
    for text in (header, f"bytes={header}"):
        try:
            wanted = wanted_range(text, size)
        except RangeNotSatisfiable:
            continue
        assert wanted is None or (wanted[0] >= 0 < wanted[1] and sum(wanted) <= size)


@pytest.mark.parametrize(
    ("name", "plain", "full"),
    [
        ("report.csv", "report.csv", "report.csv"),
        ("Übersicht 2026.csv", "Ubersicht 2026.csv", "Übersicht 2026.csv"),
        ("報告.csv", "csv", "報告.csv"),
        ("../../etc/passwd", "_.._etc_passwd", "_.._etc_passwd"),
        ('a"b;c\\d.txt', "a_b_c_d.txt", 'a"b;c_d.txt'),
        ("gpj\u202eexe.scr", "gpjexe.scr", "gpjexe.scr"),
        ("..", "artifact", "artifact"),
        ("100%.txt", "100_.txt", "100%.txt"),
    ],
)
def test_a_file_is_saved_by_its_name_and_nothing_else(name: str, plain: str, full: str) -> None:
    header = attachment(name)
    start, _, encoded = header.partition("; filename*=UTF-8''")
    assert start == f'attachment; filename="{plain}"'
    assert unquote(encoded) == full


@given(st.text())
def test_no_name_breaks_out_of_the_header(name: str) -> None:
    header = attachment(name)
    header.encode("ascii")
    assert header.isprintable()
    quoted = header.removeprefix('attachment; filename="').partition('"; ')
    assert quoted[0]
    assert '"' not in quoted[0]
    assert not set(quoted[2]) & set('";, \\/')


def test_a_response_takes_such_a_header() -> None:
    from flask import Response

    answer = Response(headers={"Content-Disposition": attachment('x"\r\nSet-Cookie: a=b\r\n\r\n<html>')})
    assert "Set-Cookie" not in answer.headers
    assert "\n" not in answer.headers["Content-Disposition"]
