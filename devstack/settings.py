"""What a local stack is made of: ports, folders, servers of its own or given ones, the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dotenv import dotenv_values

from devstack.errors import StackError
from devstack.ports import free_port

PROJECT_FOLDER = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class StackSettings:
    """Settings of one local stack; `database_url` or `redis_url` set means: use that server, start none."""

    var_folder: Path
    port: int = 5000
    flower_port: int = 5555
    mail_catcher_port: int = 8025
    host: str = "127.0.0.1"
    concurrency: int = 2
    database_url: str | None = None
    redis_url: str | None = None
    # False: faster servers that lose their data in a crash; Redis even at a restart.
    durable: bool = True
    # What the processes inherit; the stack adds addresses, ports and secrets.
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, dotenv_file: Path | None = None) -> StackSettings:
        """Read the environment and `.env`, of which the environment wins; raise `StackError` on nonsense."""
        from_file = dotenv_values(dotenv_file or PROJECT_FOLDER / ".env")
        environment = {name: value for name, value in from_file.items() if value is not None}
        environment |= os.environ if environ is None else environ
        var_folder = Path(environment.get("CARILLON_VAR_DIR") or "var").expanduser()
        return cls(
            var_folder=var_folder if var_folder.is_absolute() else PROJECT_FOLDER / var_folder,
            port=_number(environment, "PORT", 5000),
            flower_port=_number(environment, "FLOWER_PORT", 5555),
            mail_catcher_port=_number(environment, "MAIL_CATCHER_PORT", 8025),
            host=environment.get("HOST") or "127.0.0.1",
            concurrency=_number(environment, "MAX_CONCURRENT_JOBS", min(max(os.cpu_count() or 2, 2), 5)),
            database_url=environment.get("DATABASE_URL") or None,
            redis_url=environment.get("REDIS_URL") or None,
            environment=environment,
        )

    @classmethod
    def for_tests(
        cls,
        var_folder: Path,
        *,
        database_url: str | None = None,
        redis_url: str | None = None,
        concurrency: int = 2,
        **environment: str,
    ) -> StackSettings:
        """Settings on free ports with fast servers; neither `.env` nor this process's settings count."""
        inherited = {name: os.environ[name] for name in _HARMLESS if name in os.environ}
        return cls(
            var_folder=var_folder,
            port=free_port(),
            flower_port=free_port(),
            mail_catcher_port=free_port(),
            concurrency=concurrency,
            database_url=database_url,
            redis_url=redis_url,
            durable=False,
            environment={**inherited, "CARILLON_ENV": "test", **environment},
        )

    @property
    def defaults(self) -> dict[str, str]:
        """What the processes are told where nothing else is said.

        In development webhooks reach this machine: `carillon listen` and the receivers that are being written are here.
        Not where other machines reach the web process, and not where the setting is there, be it empty.
        """
        is_development = (self.environment.get("CARILLON_ENV") or "development") == "development"
        if not is_development or self.host not in _LOOPBACK or "WEBHOOK_ALLOW_NETWORKS" in self.environment:
            return {}
        return {"WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8,::1/128"}

    @property
    def catches_mails(self) -> bool:
        """Whether `make run` takes the mails itself: where no mail server is set, and nobody waits for a mail."""
        return not self.environment.get("SMTP_URL") and self.environment.get("CARILLON_ENV") != "production"

    @property
    def job_queues(self) -> str:
        """The queues that jobs may use, comma separated, as the product's setting has them."""
        return self.environment.get("JOB_QUEUES") or "default"

    @property
    def url(self) -> str:
        """Where the web process is reached from this machine."""
        host = "127.0.0.1" if self.host in ("", "0.0.0.0", "::") else self.host  # noqa: S104 - compared, not bound
        return f"http://{host}:{self.port}"

    @property
    def flower_url(self) -> str:
        """Where Flower is reached from this machine."""
        return f"http://127.0.0.1:{self.flower_port}"


_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

# Of the shell that runs the tests only what programs need to run at all may reach the processes under test.
_HARMLESS = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "VIRTUAL_ENV",
    "COVERAGE_PROCESS_START",
    "SSL_CERT_FILE",
)


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal() or int(text) == 0:
        raise StackError(f"{name}={text} is not a number of 1 or more.")
    return int(text)
