"""The whole platform on one machine, process by process, for `make run`, the fault tests and the bench."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from devstack.errors import StackError
from devstack.guard import APPLICATION_STAGE, Guard
from devstack.keys import kept_secrets, write_private
from devstack.lock import FolderLock
from devstack.mail_catcher import MailCatcher
from devstack.postgres import PostgresServer
from devstack.processes import SHUTDOWN_GRACE_SECONDS, STOP_PATIENCE_SECONDS, Process, Program, stop_all
from devstack.programs import all_programs, carillon
from devstack.redis_server import RedisServer
from devstack.settings import PROJECT_FOLDER, StackSettings

_POLL_SECONDS = 0.1


class Stack:
    """Servers and processes of one platform; a `with` block starts all of them and leaves none behind.

    `checkpoint` is called about ten times a second while the stack waits; what it raises ends the wait,
    so it must not raise while the stack stops.
    """

    def __init__(
        self,
        settings: StackSettings,
        *,
        folder: Path = PROJECT_FOLDER,
        checkpoint: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.log_folder = settings.var_folder / "log"
        self.temporary_folder = settings.var_folder / "tmp"
        self.postgres: PostgresServer | None = None
        self.redis: RedisServer | None = None
        self.mail_catcher: MailCatcher | None = None
        self._checkpoint = checkpoint
        self._lock = FolderLock(settings.var_folder)
        self._guard: Guard | None = None
        self._processes: dict[str, Process] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where the web process is reached."""
        return self.settings.url

    @property
    def database_url(self) -> str:
        """The database's address."""
        url = self.settings.database_url or (self.postgres and self.postgres.url)
        return url or _not_started("PostgreSQL")

    @property
    def redis_url(self) -> str:
        """Redis's address."""
        url = self.settings.redis_url or (self.redis and self.redis.url)
        return url or _not_started("Redis")

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every process of this stack; given settings win over generated secrets."""
        given = {name: value for name, value in self.settings.environment.items() if value}
        # Unbuffered: what a process says must be in its log before it is killed.
        defaults = {"PYTHONUNBUFFERED": "1", "SHUTDOWN_GRACE_SECONDS": str(SHUTDOWN_GRACE_SECONDS)}
        return {
            **defaults,
            **self.settings.defaults,
            **kept_secrets(self.settings.var_folder),
            **given,
            **self.addresses,
        }

    @property
    def addresses(self) -> dict[str, str]:
        """The settings that this stack decides, whatever the environment says."""
        settings = self.settings
        return {
            "CARILLON_VAR_DIR": str(settings.var_folder),
            "HOST": settings.host,
            "PORT": str(settings.port),
            "FLOWER_PORT": str(settings.flower_port),
            "MAX_CONCURRENT_JOBS": str(settings.concurrency),
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            **({"SMTP_URL": self.mail_catcher.smtp_url} if self.mail_catcher else {}),
        }

    def start(self, names: Iterable[str] | None = None) -> None:
        """Start servers, migrate, start the processes (all, or those named) and wait for health.

        Without a web process there is nobody to ask for health, and nothing is waited for.
        """
        try:
            self.start_servers()
            self.run(carillon("migrate"))
            self.start_processes(names)
            if "web" in self._processes:
                self.wait_until_healthy()
        except BaseException:
            self.stop()
            raise

    def take_folder(self) -> None:
        """Lock the folder of data, so that no second stack uses it; raise `StackError` if one does."""
        if self._guard is None:
            self._lock.acquire()
            self._guard = Guard(held_files=[self._lock.file])
            # Of a run that was killed.
            shutil.rmtree(self.temporary_folder, ignore_errors=True)
            self.temporary_folder.mkdir(mode=0o700, exist_ok=True)

    def start_servers(self) -> None:
        """Start PostgreSQL and Redis, unless others are set, and write to `stack.env` where they are."""
        self.take_folder()
        settings = self.settings
        # Made before any process asks, so that no two make them at once.
        kept_secrets(settings.var_folder)
        if settings.database_url is None:
            self.postgres = self.postgres or PostgresServer(settings.var_folder / "postgres", durable=settings.durable)
            self.postgres.guard = self._guard
            self.postgres.start()
        self._checkpoint()
        if settings.redis_url is None:
            self.redis = self.redis or RedisServer(settings.var_folder / "redis", persistent=settings.durable)
            self.redis.guard = self._guard
            self.redis.start()
        self._checkpoint()
        self._write_environment_file()

    def catch_mails(self) -> None:
        """Have the platform's mails go nowhere but to a page; before the servers are started."""
        folder = self.settings.var_folder / "mail-catcher"
        self.mail_catcher = MailCatcher(folder, page_port=self.settings.mail_catcher_port)
        self.mail_catcher.start()

    def run(self, command: Sequence[str]) -> str:
        """Run a command in the stack's environment; return what it printed, or raise `StackError`."""
        assert self._guard
        child = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._guard.watch(child.pid, APPLICATION_STAGE, signal.SIGTERM)
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    output, errors = child.communicate(timeout=_POLL_SECONDS)
                    break
                self._checkpoint()
        finally:
            child.kill()
            child.wait()
            self._guard.forget(child.pid)
        if child.returncode:
            name = " ".join([Path(command[0]).name, *command[1:]])
            raise StackError(f"`{name}` failed (exit code {child.returncode}):\n{output}{errors}".rstrip())
        return output

    def start_processes(self, names: Iterable[str] | None = None) -> None:
        """Start the platform's processes, all or those named."""
        programs = all_programs(self.settings)
        for name in programs if names is None else names:
            self.add(programs[name])

    def add(self, program: Program) -> Process:
        """Start one more process, for example `stack.add(programs.worker(1, "worker2", "jobs2"))`."""
        if program.name in self._processes:
            raise StackError(f"There is a process named {program.name} already.")
        process = Process(
            program,
            log_folder=self.log_folder,
            # A killed process leaves its temporary files, a worker the folder of its pool: they go with the run.
            environment={**self.environment, "TMPDIR": str(self.temporary_folder)},
            folder=self.folder,
            guard=self._guard,
        )
        process.start()
        self._processes[program.name] = process
        return process

    def process(self, name: str) -> Process:
        """Return a process by name: web, worker, delivery, beat, flower, or one that was added."""
        return self._processes[name]

    @property
    def processes(self) -> list[Process]:
        """All processes, in the order of their start."""
        return list(self._processes.values())

    def wait_until_healthy(self, timeout: float = 60.0) -> None:
        """Return when the web process says that all answer; raise `StackError` after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while (answer := self._health()) != (200, ""):
            self._checkpoint()
            for process in self.processes:
                if process.program.essential and not process.running:
                    raise StackError(
                        f"{process.name} ended while starting ({how_it_ended(process)}); "
                        f"the end of {process.log} says:\n{process.log_tail()}"
                    )
            if time.monotonic() > deadline:
                raise StackError(f"{self.url}/api/health did not answer 200 within {timeout:.0f} s; last: {answer[1]}")
            time.sleep(_POLL_SECONDS)

    def stop(self, patience: float = STOP_PATIENCE_SECONDS) -> None:
        """Stop all processes at once, then the servers; kill processes that take over `patience` seconds."""
        stop_all(self.processes, patience, self._checkpoint)
        self._processes.clear()
        for server in (self.redis, self.postgres):
            if server:
                server.stop()
        if self.mail_catcher:
            self.mail_catcher.stop()
            self.mail_catcher = None
        if self._guard:
            environment_file(self.settings.var_folder).unlink(missing_ok=True)
            shutil.rmtree(self.temporary_folder, ignore_errors=True)
            self._guard.close()
            self._guard = None
        self._lock.release()

    def _write_environment_file(self) -> None:
        values = kept_secrets(self.settings.var_folder) | self.addresses
        text = "".join(f"{name}='{value}'\n" for name, value in values.items())
        write_private(environment_file(self.settings.var_folder), text)

    def _health(self) -> tuple[int, str]:
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=5)
        try:
            connection.request("GET", "/api/health")
            response = connection.getresponse()
            body = response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)
        finally:
            connection.close()
        return (200, "") if response.status == 200 else (response.status, f"{response.status} {body[:500]}")


def how_it_ended(process: Process) -> str:
    """Describe a process's end in words: an exit code or a signal."""
    code = process.returncode
    if code is not None and code < 0:
        return f"signal {-code}"
    return f"exit code {code}"


def environment_file(var_folder: Path) -> Path:
    """Return the file that tells other terminals how to reach the stack while it runs."""
    return var_folder / "stack.env"


def _not_started(name: str) -> str:
    raise StackError(f"{name} has not been started.")
