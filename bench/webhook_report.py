"""The delivery of webhooks as Markdown."""

from __future__ import annotations

from collections import Counter

from bench.endpoints import SLOW_SECONDS
from bench.figures import PERCENTILES, percentile
from bench.reading import Reading
from bench.tables import table
from bench.webhooks import EVENTS_A_SECOND, WELL, Isolation, Phase, Throughput, Unwell, Webhooks

METERED = ("delivery", "PostgreSQL", "Redis")


def webhooks(found: Webhooks) -> str:
    """The section on webhooks."""
    sections = [_throughput(found)]
    if found.isolation:
        sections.append(_isolation(found.isolation))
    if found.readings:
        sections.append(_readings(found.readings, found.throughput[-1].rows))
    return "\n".join(sections)


def _throughput(found: Webhooks) -> str:
    rounds = found.throughput
    rows = [
        (
            f"{each.endpoints} endpoint{'s' if each.endpoints > 1 else ''}, "
            + (f"{each.rows:,} deliveries in the log" if each.rows else "almost empty log"),
            f"{each.deliveries:,}",
            f"{each.rate:.0f}",
            *(f"{each.usage.cpu[name] * 1000 / each.deliveries:.2f}" for name in METERED),
        )
        for each in rounds
    ]
    title = f"Webhooks: one delivery process, endpoints that answer after {SLOW_SECONDS * 1000:.0f} ms"
    head = ("all due at once", "deliveries", "a second", *(f"CPU of {name}, ms each" for name in METERED))
    written = f"The log was written by SQL in {found.log_seconds:.0f} s. " if found.log_seconds else ""
    return (
        table(title, head, rows)
        + f"From the wake of the delivery task to the last one that SQL has as delivered. {written}{_losses(rounds)}\n"
    )


def _losses(rounds: list[Throughput]) -> str:
    missing = sum(each.deliveries - each.delivered for each in rounds)
    again = sum(each.again for each in rounds)
    if not missing and not again:
        return "Nothing was lost, nothing came twice."
    return f"**Not as promised: {missing} not delivered in time, {again} delivered twice.**"


def _isolation(found: Isolation) -> str:
    unwell = f"beside {len(found.hanging.posts)} that hang and {len(found.broken.posts)} that answer 500"
    rows = [_phase_row("alone", found.alone), _phase_row(unwell, found.beside)]
    pairs = [
        (percentile(found.beside.milliseconds, share), percentile(found.alone.milliseconds, share))
        for share in PERCENTILES
    ]
    rows.append(("ratio", "", *(f"{beside / alone:.2f}" for beside, alone in pairs)))
    title = f"Webhooks: {WELL} endpoints that are well, {EVENTS_A_SECOND:g} events a second each, ms"
    missing = sum(each.planned - len(each.milliseconds) for each in (found.alone, found.beside))
    lost = f" **{missing} did not arrive in time.**" if missing else " Nothing was lost."
    return (
        table(title, ("", "events", *(f"p{share:.0f}" if share < 100 else "max" for share in PERCENTILES)), rows)
        + f"From the commit that plans a delivery to its arrival, {found.seconds:.0f} s each, "
        + (f"{found.rows:,} deliveries in the log." if found.rows else "an almost empty log.")
        + f"{lost} A ratio of two small figures: on a machine that is shared it is noisy.\n\n"
        f"Those that hang: {_unwell(found.hanging)}. Those that answer 500: {_unwell(found.broken)}.\n"
    )


def _phase_row(what: str, phase: Phase) -> tuple[str, ...]:
    return (
        what,
        f"{phase.planned:,}",
        *(f"{percentile(phase.milliseconds, share):.1f}" for share in PERCENTILES),
    )


def _unwell(found: Unwell) -> str:
    least, most = min(found.posts), max(found.posts)
    requests = f"{least}" if least == most else f"{least} to {most}"
    circuits = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in Counter(found.circuits).items())
    return f"{found.planned} events, {requests} requests to each, circuits in the end: {circuits}"


def _readings(readings: list[Reading], rows: int) -> str:
    title = f"Webhooks: reading the log of an endpoint with 30 % of {rows:,} deliveries, one request at a time, ms"
    cells = [
        (reading.what, *(f"{percentile(reading.milliseconds, share):.1f}" for share in (50, 99)))
        for reading in readings
    ]
    return table(title, ("", "p50", "p99"), cells)
