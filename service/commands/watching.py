"""Several jobs watched at once: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, Self, TextIO

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.text import Text

from service.client import Carillon, ClientError, Update
from service.client.errors import Document
from service.commands.display import clean, coloured, ending, log_line, percent
from service.commands.server import INTERRUPTED, sentence

FAILED = 1
CANCELLED = 3
# A build's log wants no ten lines a second.
PLAIN_SECONDS = 1.0


@dataclass(frozen=True)
class Heard:
    """Something about a job: how it is now, a line of its log, or why it cannot be watched."""

    job_id: str
    what: Update | Document | ClientError


class Board(Protocol):
    """Where it is shown."""

    def show(self, update: Update) -> None:
        """A job has changed."""

    def say(self, job_id: str, line: str) -> None:
        """A job has logged something."""


@dataclass
class Watched:
    """The jobs a command watches: as each was at last, and those that could not be watched to their end."""

    job_ids: Sequence[str]
    jobs: dict[str, Document]
    lost: set[str]

    @property
    def exit_code(self) -> int:
        """0 if all have completed."""
        statuses = {job["status"] for job in self.jobs.values()}
        if self.lost or "failed" in statuses:
            return FAILED
        return CANCELLED if "cancelled" in statuses else 0


def watch_jobs(client: Carillon, job_ids: Sequence[str], stream: TextIO, *, logs: bool = False) -> Watched:
    """Show how jobs go until each has ended; Ctrl-C leaves them running and ends the command."""
    wanted = list(dict.fromkeys(job_ids))
    watched = Watched(wanted, {}, set())
    heard: queue.Queue[Heard] = queue.Queue()
    for job_id in wanted:
        threading.Thread(target=_listen, args=(client, job_id, heard, logs), daemon=True).start()
    try:
        with _board(stream) as board:
            while _unended(watched):
                _take(heard.get(), watched, board)
    except KeyboardInterrupt:
        _say_goodbye(_unended(watched))
        raise click.exceptions.Exit(INTERRUPTED) from None
    return watched


def _unended(watched: Watched) -> list[str]:
    ended = {job_id for job_id, job in watched.jobs.items() if Update(job).is_final}
    return [job_id for job_id in watched.job_ids if job_id not in ended | watched.lost]


def _take(heard: Heard, watched: Watched, board: Board) -> None:
    if isinstance(heard.what, Update):
        watched.jobs[heard.job_id] = heard.what.job
        board.show(heard.what)
    elif isinstance(heard.what, ClientError):
        watched.lost.add(heard.job_id)
        click.echo(f"Error: {clean(heard.job_id)}: {sentence(heard.what)}", err=True)
    else:
        board.say(heard.job_id, log_line(heard.what))


def _say_goodbye(job_ids: Sequence[str]) -> None:
    ids = " ".join(job_ids)
    what = "The job goes on" if len(job_ids) == 1 else f"{len(job_ids)} jobs go on"
    click.echo(f"\n{what}. To watch again: carillon watch {ids}", err=True)


def _listen(client: Carillon, job_id: str, heard: queue.Queue[Heard], with_logs: bool) -> None:
    """Tell what is heard of a job; how it ended comes after the last line of its log."""
    reader = threading.Thread(target=_read_log, args=(client, job_id, heard), daemon=True)
    try:
        for update in client.watch(job_id):
            if with_logs and reader.ident is None:
                reader.start()
            if update.is_final and reader.ident is not None:
                reader.join()
            heard.put(Heard(job_id, update))
    except ClientError as error:
        heard.put(Heard(job_id, error))
    except Exception as error:
        # Whatever this thread dies of: the command would wait for it for ever.
        heard.put(Heard(job_id, ClientError(f"It cannot be watched: {error!r}")))
        raise


def _read_log(client: Carillon, job_id: str, heard: queue.Queue[Heard]) -> None:
    try:
        for line in client.logs(job_id, follow=True):
            heard.put(Heard(job_id, line))
    except ClientError as error:
        heard.put(Heard(job_id, error))


def _board(stream: TextIO) -> AbstractContextManager[Board]:
    console = Console(file=stream)
    if stream.isatty() and not console.is_dumb_terminal:
        return Bars(console)
    return Lines(stream)


class Lines:
    """A line for each change of status, and for progress now and then."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown: dict[str, tuple[str, float]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, update: Update) -> None:
        """A job has changed."""
        status, at = self._shown.get(update.id, ("", 0.0))
        now = time.monotonic()
        if update.status == status and now - at < PLAIN_SECONDS:
            return
        self._shown[update.id] = (update.status, now)
        words = ending(update.job) if update.is_final else f"{percent(update.job)} {_message(update)}"
        click.echo(f"{update.id}  {coloured(update.status)}  {words}".rstrip(), file=self._stream)

    def say(self, job_id: str, line: str) -> None:
        """A job has logged something."""
        click.echo(f"{job_id}  {line}", file=self._stream)


class Bars:
    """A bar for each job, log lines above them; a job's end stays on the screen."""

    def __init__(self, console: Console) -> None:
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.fields[status]:9}", markup=False),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[message]}", markup=False),
            console=console,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, update: Update) -> None:
        """A job has changed."""
        task = self._task(update)
        if update.status not in {"scheduled", "blocked", "queued"}:
            # Until then the bar goes to and fro.
            self._progress.start_task(task)
        is_whole = update.status == "completed"
        message = ending(update.job) if update.is_final else _message(update)
        self._progress.update(
            task, completed=100 if is_whole else update.percentage, status=update.status, message=message
        )

    def say(self, job_id: str, line: str) -> None:
        """A job has logged something."""
        prefix = f"{job_id}  " if len(self._tasks) > 1 else ""
        self._progress.console.print(Text(f"{prefix}{line}"))

    def _task(self, update: Update) -> TaskID:
        if update.id not in self._tasks:
            name = clean(update.job["name"])
            self._tasks[update.id] = self._progress.add_task(name, start=False, total=100, status="", message="")
        return self._tasks[update.id]


def _message(update: Update) -> str:
    """What the job says of its progress, and how long it still takes."""
    progress = update.progress or {}
    words = [clean(progress.get("message") or "")]
    if update.status == "active" and progress.get("etaSeconds"):
        words.append(f"({progress['etaSeconds']:.0f} s left)")
    return " ".join(words).strip()
