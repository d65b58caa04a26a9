"""What `carillon listen` prints of a webhook, whoever posted it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from service.commands.arrivals import Arrivals
from service.commands.listening import Answer, Arrival

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def shown(capsys: pytest.CaptureFixture[str], *arrivals: Arrival) -> list[str]:
    """The lines printed, without those between webhooks."""
    board = Arrivals(in_json=False)
    for arrival in arrivals:
        board.show(arrival)
    return [line for line in capsys.readouterr().out.splitlines() if line]


def test_an_id_that_was_there_before_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    arrival = Arrival(NOW, "msg-1", b'{"type": "job.failed"}', None, Answer(204))
    first, _, _, _, second, *_ = shown(capsys, arrival, arrival)
    assert first.endswith("  job.failed  msg-1  ✓ verified  answered 204")
    assert second.endswith("  job.failed  msg-1  ✓ verified  again (2)  answered 204")


@pytest.mark.parametrize(
    "body",
    [
        b"\x1b[2J",
        b'{"type": "\\u001b[2J", "\\u009b2J": "\\u202e \\ud800"}',
        b"[" * 100_000,
        "\u202e".encode(),
        b"\xff",
    ],
)
def test_nothing_that_is_posted_commands_the_terminal(capsys: pytest.CaptureFixture[str], body: bytes) -> None:
    lines = shown(capsys, Arrival(NOW, "\x1b[2J", body, "The header \x1b[2J is missing.", Answer(401)))
    assert "✗ not verified: The header  [2J is missing  answered 401" in lines[0]
    text = "".join(lines)
    assert not set(text) & set("\x1b\x9b\u202e")
    assert len(text) < 5_000
