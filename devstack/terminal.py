"""The platform in a terminal: start everything, show the logs, restart what dies, stop in good order.

A process that dies by itself is started again, because the platform promises to survive that, and a stack
that fell over with it would hide whether it does. Two cases bring everything down with a message instead: a
death before the platform was healthy for the first time, and the sixth one in a row; then something is wrong
that starting again does not cure.
"""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType

from devstack.errors import StackError, StopRequested
from devstack.follower import LogFollower
from devstack.ports import check_ports
from devstack.processes import SHUTDOWN_GRACE_SECONDS, Process
from devstack.programs import all_programs, carillon
from devstack.restarts import LIMIT, Restarts
from devstack.servers import Server
from devstack.settings import StackSettings
from devstack.stack import Stack, how_it_ended

_TICK_SECONDS = 0.1
# A terminal's Ctrl-C or a service manager's SIGTERM can arrive twice, from make too; a person takes longer.
_SECOND_SIGNAL_AFTER_SECONDS = 1.0


class Terminal:
    """One `make run`."""

    def __init__(self, settings: StackSettings) -> None:
        self._settings = settings
        self._stack = Stack(settings, checkpoint=self._checkpoint)
        self._follower = LogFollower(list(all_programs(settings)))
        self._restarts: dict[str, Restarts] = {}
        self._given_up: set[str] = set()
        self._stop_requested_at: float | None = None
        self._stopping = False

    def run(self) -> int:
        """Run until Ctrl-C or SIGTERM; return the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        try:
            self._start()
            while True:
                self._checkpoint()
                self._mend()
                time.sleep(_TICK_SECONDS)
        except StopRequested:
            self._follower.say(
                f"Stopping; running jobs have {SHUTDOWN_GRACE_SECONDS} seconds to finish, "
                "then they are kept for the next run. A second Ctrl-C kills everything."
            )
            return 0
        except StackError as error:
            self._show_logs()
            print(error, file=sys.stderr, flush=True)
            return 1
        finally:
            self._stop()

    def _start(self) -> None:
        settings = self._settings
        self._stack.take_folder()
        ports = {"PORT": settings.port, "FLOWER_PORT": settings.flower_port}
        if settings.catches_mails:
            ports["MAIL_CATCHER_PORT"] = settings.mail_catcher_port
        check_ports(ports)
        self._follower.say(f"Starting; data, logs and secrets are in {settings.var_folder}.")
        if settings.catches_mails:
            self._stack.catch_mails()
        self._stack.start_servers()
        self._stack.run(carillon("migrate"))
        bootstrap = self._stack.run(carillon("bootstrap")).strip()
        if bootstrap:
            # At once: a password that is told once must not be lost if the start fails further on.
            self._follower.say(bootstrap)
        self._stack.start_processes()
        self._stack.wait_until_healthy()
        self._show_logs()
        catcher = self._stack.mail_catcher
        print(announcement(settings, bootstrap, catcher.page_url if catcher else None), flush=True)

    def _mend(self) -> None:
        """Start again what has died, after a pause."""
        servers = [server for server in (self._stack.postgres, self._stack.redis) if server]
        for part in (*servers, *self._stack.processes):
            if part.running or part.name in self._given_up:
                continue
            restarts = self._restarts.setdefault(part.name, Restarts())
            if restarts.is_due:
                self._start_again(part, restarts)
            elif not restarts.is_planned:
                self._plan_restart(part, restarts)

    def _start_again(self, part: Process | Server, restarts: Restarts) -> None:
        restarts.made()
        try:
            part.start()
        except StackError as error:
            self._follower.say(str(error))

    def _plan_restart(self, part: Process | Server, restarts: Restarts) -> None:
        process = part.process if isinstance(part, Server) else part
        assert process
        ended = f"{part.name} ended by itself ({how_it_ended(process)})"
        # The pool of a dead worker would go on with jobs beside the new worker's.
        process.kill()
        pause = restarts.plan()
        if pause is not None:
            self._follower.say(f"{ended}; it is started again in {pause:.0f} s ({restarts.count} of {LIMIT}).")
            return
        message = f"{ended} for the {LIMIT + 1}th time in a row; its log is {process.log}."
        if process.program.essential:
            raise StackError(message)
        self._given_up.add(part.name)
        self._follower.say(f"{message} The platform goes on without it.")

    def _checkpoint(self) -> None:
        self._show_logs()
        if self._stop_requested_at is not None and not self._stopping:
            raise StopRequested

    def _show_logs(self) -> None:
        for process in self._stack.processes:
            self._follower.show(process.name, process.log)

    def _stop(self) -> None:
        self._stopping = True
        self._stack.stop()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        # Noted, not raised: an exception could hit the moment between a process's start and its record.
        now = time.monotonic()
        if self._stop_requested_at is None:
            self._stop_requested_at = now
        elif number != signal.SIGHUP and now - self._stop_requested_at > _SECOND_SIGNAL_AFTER_SECONDS:
            for process in self._stack.processes:
                process.send_to_group(signal.SIGKILL)


def announcement(settings: StackSettings, bootstrap: str, mails: str | None) -> str:
    """Return the block that tells where everything is: what `bootstrap` said, and where the `mails` are shown."""
    rows = [
        "Carillon is running.",
        "",
        f"  Carillon       {settings.url}/",
        f"  API documents  {settings.url}/api/docs",
        f"  Flower         {settings.flower_url}/",
        *([f"  Mails          {mails}"] if mails else []),
        *(f"  {line.strip()}" for line in bootstrap.splitlines() if line.strip()),
        "",
        "Ctrl-C stops everything.",
    ]
    rule = "=" * 72
    return "\n".join(["", rule, *rows, rule, ""])
