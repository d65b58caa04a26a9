"""The plot of a run: throughput as bars, latency as curves; SVG written by hand, which needs no library."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from bench.figures import OTHERS, Spread, percentile, saturation
from bench.results import Results

WIDTH, HEIGHT = 960, 340
INK, FAINT, OURS, BARE = "#222222", "#b8b8b8", "#1f6fb2", "#8a6d3b"
WEBHOOK = "#c0504d"
SHARES = [*range(1, 100), 99.5, 100]


def draw(results: Results) -> str:
    """The SVG document."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *_throughput(results),
        *_latency(results),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _throughput(results: Results) -> list[str]:
    bars = [
        ("bare Celery, worker side", Spread.of([each.rate for each in results.bare]), BARE),
        ("Carillon, worker side", Spread.of([each.rate for each in results.worker]), OURS),
        ("Carillon over HTTP", saturation(results), OURS),
        *((name, Spread.of([rate]), FAINT) for name, rate in OTHERS.items()),
    ]
    most = max(spread.most for _, spread, _ in bars) or 1.0
    parts = [_text(20, 24, "Jobs a second", bold=True)]
    for number, (name, spread, colour) in enumerate(bars):
        top = 44 + number * 46
        length = 360 * spread.median / most
        parts += [
            _text(20, top + 11, name),
            f'<rect x="20" y="{top + 16}" width="{length:.1f}" height="16" fill="{colour}"/>',
            _line(20 + 360 * spread.least / most, top + 24, 20 + 360 * spread.most / most, top + 24, INK),
            _text(20 + 360 * spread.most / most + 6, top + 28, f"{spread.median:.0f}"),
        ]
    return parts


def _latency(results: Results) -> list[str]:
    if results.latency is None or not results.latency.socket or not results.latency.webhook:
        return []
    found = results.latency
    left, right, top, bottom = 500, 930, 50, 290
    most = max(50.0, percentile(found.socket, 99.5), percentile(found.webhook, 99.5)) * 1.05

    def place(milliseconds: float, share: float) -> tuple[float, float]:
        return left + (right - left) * min(milliseconds / most, 1.0), bottom - (bottom - top) * share / 100

    def curve(values: Sequence[float], colour: str) -> str:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(percentile(values, s), s) for s in SHARES))
        return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'

    parts = [_text(left, 24, f"Per cent of jobs heard of within ms of their 202, at {found.rate} jobs/s", bold=True)]
    for share in (0, 50, 95, 99):
        _, y = place(0, share)
        parts += [_line(left, y, right, y, FAINT), _text(left - 26, y + 4, str(share))]
    for step in range(6):
        x, _ = place(most * step / 5, 0)
        parts.append(_text(x - 8, bottom + 18, f"{most * step / 5:.0f}"))
    for bar, colour in ((8, OURS), (25, OURS), (40, WEBHOOK)):
        x, _ = place(bar, 0)
        parts += [f'<g stroke-dasharray="3 3">{_line(x, top, x, bottom, colour)}</g>', _text(x - 6, top - 6, str(bar))]
    parts += [curve(found.socket, OURS), curve(found.webhook, WEBHOOK)]
    parts += [
        _text(right - 150, bottom - 40, "at the socket", colour=OURS),
        _text(right - 150, bottom - 22, "at the webhook receiver", colour=WEBHOOK),
        _text(left, bottom + 38, "dashed: the bars, p50 and p99 at the socket, p99 at the receiver"),
    ]
    return parts


def _text(x: float, y: float, words: str, *, bold: bool = False, colour: str = INK) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}"{weight}>{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'
