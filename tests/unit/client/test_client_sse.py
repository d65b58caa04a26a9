"""The parser of event streams, by the rules of the HTML standard."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.client.sse import Message, Parser


def parsed(*pieces: bytes) -> list[Message]:
    parser = Parser()
    return [message for piece in pieces for message in parser.feed(piece)]


@pytest.mark.parametrize(
    ("stream", "messages"),
    [
        (b"data: a\n\n", [Message("message", "a", None)]),
        (b"event: e\ndata: a\nid: 1-2\n\n", [Message("e", "a", "1-2")]),
        (b"data:a\ndata: b\ndata\n\n", [Message("message", "a\nb\n", None)]),
        (b"data:  two spaces\n\n", [Message("message", " two spaces", None)]),
        (b": comment\n\ndata: a\n\n", [Message("message", "a", None)]),
        (b"id: 1\n\ndata: a\n\ndata: b\n\n", [Message("message", "a", "1"), Message("message", "b", "1")]),
        (b"id: 1\ndata: a\n\nid\ndata: b\n\n", [Message("message", "a", "1"), Message("message", "b", "")]),
        (b"id: 1\0\ndata: a\n\n", [Message("message", "a", None)]),
        (b"event: lost\n\ndata: a\n\n", [Message("message", "a", None)]),
        (b"retry: 5\nunknown: x\ndata: a\n\n", [Message("message", "a", None)]),
        (b"\xef\xbb\xbfdata: a\n\n", [Message("message", "a", None)]),
        (b"data: cut off\n", []),
    ],
)
def test_the_standards_examples(stream: bytes, messages: list[Message]) -> None:
    assert parsed(stream) == messages


def test_a_number_without_an_event_counts_once_it_is_complete() -> None:
    parser = Parser()
    assert list(parser.feed(b"id: 1-5\n\nid: 1-6\ndata: cut")) == []
    assert parser.last_id == "1-5"


@pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\r\n"])
@given(cuts=st.lists(st.integers(0, 80), max_size=6))
def test_however_it_is_cut_the_same_messages_come(line_end: bytes, cuts: list[int]) -> None:
    lines = ["id: 1-1", "event: job:progress", 'data: {"name": "Größe ☃"}', "", ": quiet", "", "data: b", ""]
    stream = b"".join(line.encode() + line_end for line in lines)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[begin:end] for begin, end in pairwise(places)]
    assert parsed(*pieces) == [Message("job:progress", '{"name": "Größe ☃"}', "1-1"), Message("message", "b", "1-1")]
