"""A run's figures as Markdown, as JSON and as a plot."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from bench import plot
from bench.audience import Audience
from bench.figures import (
    OTHERS,
    PERCENTILES,
    Spread,
    bars,
    cpu_per_job,
    pair_ratios,
    peak_memory,
    percentile,
    ratio_of_medians,
    slowest,
)
from bench.reading import LIST_BAR, Reading
from bench.results import Results
from bench.rounds import LatencyRound
from bench.sizes import SizeRound
from bench.tables import table
from bench.webhook_report import webhooks

LATENCIES = (
    ("socket", "202 read → `job:completed` at the socket"),
    ("webhook", "202 read → webhook at the receiver"),
    ("socket_from_request", "request sent → `job:completed` at the socket"),
    ("webhook_from_request", "request sent → webhook at the receiver"),
    ("answer", "request sent → 202 read"),
)


def publish(results: Results) -> None:
    """Print the report; write it with its JSON and its plot where the options say."""
    text = markdown(results)
    print(text)
    folder = results.options.output
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "RESULTS.md").write_text(f"{text}\n![Throughput and latency](RESULTS.svg)\n")
    (folder / "results.json").write_text(json.dumps(document(results), indent=1) + "\n")
    (folder / "RESULTS.svg").write_text(plot.draw(results))


def markdown(results: Results) -> str:
    """The whole report."""
    sections = [_head(results), _bars(results)]
    if results.worker:
        sections += [_worker_side(results), _saturation(results)]
    if results.latency:
        sections.append(_latency(results.latency))
    if results.audiences:
        sections.append(_audiences(results.audiences))
    if len(results.sizes) > 1:
        sections.append(_sizes(results.sizes))
    if results.webhooks:
        sections.append(webhooks(results.webhooks))
    if results.worker:
        sections += [_cpu(results), _memory(results)]
    return "\n".join(sections)


def document(results: Results) -> dict[str, Any]:
    """The whole run for programs: rounds as they were, latencies as percentiles."""
    found = asdict(results)
    for name in ("output", "profile"):
        del found["options"][name]
    found["bars"] = [{**asdict(bar), "passes": bar.passes} for bar in bars(results)]
    found["ratio"] = {"ofMedians": ratio_of_medians(results), "ofPairs": pair_ratios(results)}
    if found["latency"]:
        for name, _ in LATENCIES:
            values = found["latency"][name]
            found["latency"][name] = {
                f"p{share:g}": percentile(values, share) for share in (*range(5, 100, 5), 99, 100)
            }
    condensed: dict[str, Any] = _condensed(found)
    return condensed


def _condensed(value: Any) -> Any:
    """Thousands of single times as percentiles."""
    if isinstance(value, list | tuple):
        return [_condensed(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: {f"p{share:g}": percentile(each, share) for share in PERCENTILES}
        if name == "milliseconds"
        else _condensed(each)
        for name, each in value.items()
    }


def _head(results: Results) -> str:
    options, around = results.options, results.surroundings
    libraries = ", ".join(f"{name} {version}" for name, version in around.libraries.items())
    usages = [
        *(each.usage for each in results.worker),
        *(each.usage for each in results.bare),
        *(each.usage for each in results.saturation),
        *(each.usage for each in (results.webhooks.throughput if results.webhooks else ())),
    ]
    busy = Spread.of([usage.others for usage in usages])
    durable = ", ".join(f"{name} {value}" for name, value in results.durability.items() if name != "server_version")
    lines = [
        "# Carillon beside bare Celery",
        "",
        "Made by `make bench`; what is measured and how stands in `bench/`." if not options.quick else "A smoke test.",
        "",
        f"- {around.date}, commit {around.commit}, {results.seconds:.0f} s",
        f"- {around.cores} cores; load before the run {around.load}; others kept {busy.median:.2f} cores busy "
        f"(at most {busy.most:.2f}) while it ran",
        f"- Python {around.python}, {libraries}",
        f"- PostgreSQL {results.durability.get('server_version', '?')} is durable: {durable}; "
        f"an fsync of 8 KiB takes {around.sync} ms on this disk; Redis, for both sides, appends to its file",
        f"- {options.concurrency} prefork processes a side; Carillon also has a web, a delivery and a beat process; "
        f"{options.connections} HTTP connections submit; one socket client, one webhook receiver",
        "- a job reports five times, stores two notifications and its end, goes to the socket and to one endpoint; "
        "its mails are off; "
        "a task of bare Celery calls `update_state` five times and stores its result",
        "",
    ]
    return "\n".join(lines)


def _bars(results: Results) -> str:
    rows = [
        (
            bar.what,
            _number(bar.figure, bar.unit) if bar.unit else f"{bar.figure:.2f}",
            f"{'≥' if bar.at_least else '≤'} {_number(bar.bar, bar.unit) if bar.unit else bar.bar}",
            "pass" if bar.passes else "**miss**",
        )
        for bar in bars(results)
    ]
    return table("Bars", ("", "median", "bar", ""), rows)


def _worker_side(results: Results) -> str:
    rows = [
        _spread_row("Carillon, jobs/s", [each.rate for each in results.worker]),
        _spread_row("bare Celery, tasks/s", [each.rate for each in results.bare]),
        _spread_row("Carillon / bare Celery, of each pair", pair_ratios(results), digits=2),
        _spread_row("submit while no worker runs, requests/s", [each.submission.rate for each in results.worker]),
        _spread_row("bare Celery's `apply_async`, one process, tasks/s", [_queue_rate(each) for each in results.bare]),
    ]
    title = f"Worker side: {_jobs(results.worker)} jobs queued before the worker starts"
    text = table(title, ("", "min", "median", "max"), rows)
    return text + f"Ratio of the medians: {ratio_of_medians(results):.2f}.{_losses(results.worker)}\n"


def _saturation(results: Results) -> str:
    rounds = results.saturation
    rows = [
        _spread_row("jobs/s, to the last event and the last webhook", [each.rate for each in rounds]),
        _spread_row("seconds, to the last event", [each.socket.last for each in rounds], digits=1),
        _spread_row("seconds, to the last webhook", [each.webhook.last for each in rounds], digits=1),
        _spread_row("submit, requests/s", [each.submission.rate for each in rounds]),
    ]
    title = f"Over HTTP at saturation: {_jobs(rounds)} jobs"
    others = "; ".join(f"{name} {rate}" for name, rate in OTHERS.items())
    text = table(title, ("", "min", "median", "max"), rows)
    return text + f"Others on two cores, same work, earlier runs, jobs/s: {others}.{_losses(rounds)}\n"


def _jobs(rounds: Sequence[Any]) -> str:
    """How many jobs a round had and how many rounds there were."""
    return f"{len(rounds)} round{'' if len(rounds) == 1 else 's'} of {rounds[0].jobs}" if rounds else "0"


def _losses(rounds: Sequence[Any]) -> str:
    """What did not arrive, arrived twice or was refused, in words; nothing is no word."""
    losses = {
        "refused": sum(each.submission.refused for each in rounds),
        "not submitted in time": sum(each.jobs - each.submission.accepted - each.submission.refused for each in rounds),
        "not completed": sum(each.submission.accepted - each.side.completed for each in rounds),
        "not heard at the socket in time": sum(each.submission.accepted - each.socket.jobs for each in rounds),
        "not delivered in time": sum(each.submission.accepted - each.webhook.jobs for each in rounds),
        "heard twice": sum(each.socket.again for each in rounds),
        "delivered twice": sum(each.webhook.again for each in rounds),
        "notifications missing": sum(2 * each.side.completed - each.side.notifications for each in rounds),
        "holes in the numbers of events": sum(getattr(each, "holes", 0) for each in rounds),
    }
    words = [f"{count} {what}" for what, count in losses.items() if count]
    if not words:
        return " Nothing was lost, nothing came twice."
    return f" **Not as promised: {', '.join(words)}.**"


def _latency(found: LatencyRound) -> str:
    rows = []
    for name, words in LATENCIES:
        values = getattr(found, name)
        rows.append((words, *(f"{percentile(values, share):.1f}" for share in PERCENTILES)))
    title = f"Latency at {found.rate} jobs/s, {found.jobs} jobs, ms"
    text = table(title, ("", "p50", "p95", "p99", "max"), rows)
    missing = found.jobs * 2 - len(found.socket) - len(found.webhook)
    words = f" **{missing} did not arrive within 10 s.**" if missing else ""
    return (
        text
        + f"The load kept its rhythm to {found.latest:.1f} ms; others used {found.usage.others:.2f} cores.{words}\n"
    )


def _audiences(audiences: Sequence[Audience]) -> str:
    rows = [
        (
            f"{found.clients:,}",
            *(f"{percentile(found.milliseconds, share):.1f}" for share in PERCENTILES),
            f"{found.busy_cores:.2f}",
            f"{found.idle_cores:.3f}",
            f"{found.kib_per_socket:.0f}",
        )
        for found in audiences
    ]
    head = ("clients", "p50", "p95", "p99", "max", "cores", "cores when idle", "KiB an idle socket")
    lost = sum(found.told - len(found.milliseconds) for found in audiences)
    words = "Nothing was lost." if lost == 0 else f"**{lost} events were not heard.**"
    return (
        table("Connected clients of one web process, an event a second each, ms", head, rows)
        + f"From the publisher's call to the client's read, all on this machine. {words}\n"
    )


def _sizes(sizes: Sequence[SizeRound]) -> str:
    base, *larger = sizes
    jobs = table(
        "With many jobs of old in the tables",
        (f"{base.worker.jobs} jobs at each size", "almost empty", *_by_size(larger, "{:,}", "ratio")),
        [
            (
                what,
                f"{figure(base):.{digits}f}",
                *(
                    cell
                    for each in larger
                    for cell in (f"{figure(each):.{digits}f}", _ratio(figure(each), figure(base)))
                ),
            )
            for what, digits, figure in _SIZE_FIGURES
        ],
    )
    lists = table(
        "Reading with many jobs of old in the tables, one request at a time, ms",
        ("", "almost empty, p50", "p99", *_by_size(larger, "{:,}, p50", "p99", "ratio of p50"), "bar", ""),
        [_reading_row([each.readings[number] for each in sizes]) for number in range(len(base.readings))],
    )
    seconds = ", ".join(f"{each.rows:,} in {each.seconds:.0f} s" for each in larger)
    losses = _losses([each.worker for each in sizes])
    return (
        f"{jobs}Written by SQL: {seconds}; 30 % are the user's whose jobs these are.{losses}\n\n"
        f"{lists}The bar is for the p99. What `q` looks for stands in no index: where it is rare the list is read.\n"
    )


# What is told of each size: words, digits, the figure.
_SIZE_FIGURES: tuple[tuple[str, int, Callable[[SizeRound], float]], ...] = (
    ("submit while no worker runs, requests/s", 0, lambda size: size.worker.submission.rate),
    ("`POST /api/jobs` meanwhile, p50, ms", 1, lambda size: percentile(size.worker.submission.milliseconds, 50)),
    ("`POST /api/jobs` meanwhile, p99, ms", 1, lambda size: percentile(size.worker.submission.milliseconds, 99)),
    ("claim and run, jobs/s", 0, lambda size: size.worker.rate),
    (
        "CPU of PostgreSQL meanwhile, ms a job",
        2,
        lambda size: size.worker.usage.cpu["PostgreSQL"] * 1000 / size.worker.jobs,
    ),
)


def _ratio(figure: float, base: float) -> str:
    return f"{figure / base:.2f}" if base else ""


def _by_size(sizes: Sequence[SizeRound], *heads: str) -> list[str]:
    return [head.format(each.rows) for each in sizes for head in heads]


def _reading_row(readings: Sequence[Reading]) -> tuple[str, ...]:
    cells: list[str] = []
    p50s = [percentile(each.milliseconds, 50) for each in readings]
    for reading, p50 in zip(readings, p50s, strict=True):
        cells += [f"{p50:.1f}", f"{percentile(reading.milliseconds, 99):.1f}"]
        if reading is not readings[0]:
            cells.append(_ratio(p50, p50s[0]))
    last = readings[-1]
    if not last.has_bar:
        return (last.what, *cells, "", "")
    verdict = "pass" if slowest([last]) <= LIST_BAR else "**miss**"
    return (last.what, *cells, f"≤ {LIST_BAR:.0f}", verdict)


def _cpu(results: Results) -> str:
    columns = {
        "at saturation": cpu_per_job([(each.usage, each.side.completed) for each in results.saturation]),
        "worker side": cpu_per_job([(each.usage, each.side.completed) for each in results.worker]),
        "bare Celery": cpu_per_job([(each.usage, each.completed) for each in results.bare]),
    }
    if results.latency:
        columns[f"at {results.latency.rate} jobs/s"] = cpu_per_job([(results.latency.usage, results.latency.jobs)])
    text = _by_process("CPU a job, ms (user and system), median over rounds", columns, digits=2)
    sums = {
        name: sum(value for process, value in column.items() if not process.startswith("bench"))
        for name, column in columns.items()
    }
    words = ", ".join(f"{name} {value:.2f}" for name, value in sums.items())
    return (
        text + f"All without the bench's own processes: {words}. Beside bare Celery Carillon's other processes idle.\n"
    )


def _memory(results: Results) -> str:
    columns = {
        "at saturation": peak_memory([each.usage for each in results.saturation]),
        "bare Celery": peak_memory([each.usage for each in results.bare]),
    }
    text = _by_process("Peak memory, MiB", columns, digits=0)
    return text + "Resident; what the processes of one row share is counted once.\n"


def _by_process(title: str, columns: dict[str, dict[str, float]], digits: int) -> str:
    names = {name: None for column in columns.values() for name in column}
    rows = [
        (name, *(f"{column[name]:.{digits}f}" if name in column else "" for column in columns.values()))
        for name in names
    ]
    return table(title, ("", *columns), rows)


def _queue_rate(bare: Any) -> float:
    return float(bare.tasks / bare.queue_seconds)


def _spread_row(what: str, values: Sequence[float], digits: int = 0) -> tuple[str, ...]:
    spread = Spread.of(values)
    return (what, *(f"{value:.{digits}f}" for value in (spread.least, spread.median, spread.most)))


def _number(value: float, unit: str) -> str:
    return f"{value:.1f} {unit}" if unit == "ms" else f"{value:.0f} {unit}"
