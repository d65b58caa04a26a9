"""The URL of a database taken apart: nothing reaches a driver that is not named here."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

POSTGRESQL = "postgresql"
MYSQL = "mysql"
MARIADB = "mariadb"
SQLITE = "sqlite"

MAXIMUM_URL_LENGTH = 2048

_ENGINES = {
    "postgresql": POSTGRESQL,
    "postgres": POSTGRESQL,
    "postgresql+psycopg2": POSTGRESQL,
    "mysql": MYSQL,
    "mysql+pymysql": MYSQL,
    "mariadb": MARIADB,
    "mariadb+pymysql": MARIADB,
    "sqlite": SQLITE,
}
_DEFAULT_PORTS = {POSTGRESQL: 5432, MYSQL: 3306, MARIADB: 3306}
# No slash and no at sign (a Unix socket to libpq), no comma (several hosts), no per cent (an IPv6 zone).
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_-]+)*\.?")


def _one_of(*words: str) -> Callable[[str], bool]:
    return lambda value: value in words


_POSTGRESQL_OPTIONS: Mapping[str, Callable[[str], bool]] = {
    "sslmode": _one_of("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    # Any other value is a file of the machine that connects.
    "sslrootcert": _one_of("system"),
    "channel_binding": _one_of("disable", "prefer", "require"),
    "application_name": lambda value: bool(re.fullmatch(r"[\w .:-]{1,63}", value)),
}
_MYSQL_OPTIONS: Mapping[str, Callable[[str], bool]] = {
    "ssl-mode": lambda value: value.upper() in {"DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"},
    "charset": _one_of("utf8mb4"),
}
# What a URL may ask for, and with which values; everything else could read files or run statements.
_OPTIONS = {POSTGRESQL: _POSTGRESQL_OPTIONS, MYSQL: _MYSQL_OPTIONS, MARIADB: _MYSQL_OPTIONS, SQLITE: {}}


class InvalidUrl(ValueError):
    """The URL is not one that this installation opens; the message never quotes it."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a database is and who logs in; of SQLite only `database`, the path of its file, is set."""

    engine: str
    database: str | None
    host: str | None = None
    port: int | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> tuple[str, str | None, int | None, str | None]:
        """What tells one database from another, whoever logs in."""
        return self.engine, self.host, self.port, self.database


def parse_url(text: str) -> Endpoint:
    """The endpoint of a URL; raises InvalidUrl."""
    if len(text) > MAXIMUM_URL_LENGTH:
        raise InvalidUrl(f"Longer than {MAXIMUM_URL_LENGTH} characters.")
    if any(character <= " " or character == "\x7f" for character in text):
        raise InvalidUrl("Must not hold spaces or control characters; write them as %20 and the like.")
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise InvalidUrl("Not a database URL, such as postgresql://user:password@host:5432/name.") from None
    engine = _ENGINES.get(url.drivername)
    if engine is None:
        raise InvalidUrl("Must begin with postgresql://, mysql://, mariadb:// or sqlite:///.")
    for part in (url.username, url.password, url.database):
        # They may come percent-encoded; no driver takes them.
        if part is not None and any(character < " " or "\ud800" <= character <= "\udfff" for character in part):
            raise InvalidUrl("User name, password and database must not hold control characters.")
    options = _options(engine, url)
    return _sqlite(url) if engine == SQLITE else _server(engine, url, options)


def _options(engine: str, url: URL) -> dict[str, str]:
    allowed = _OPTIONS[engine]
    options: dict[str, str] = {}
    for name, value in url.query.items():
        if name not in allowed:
            known = ", ".join(allowed) or "none"
            raise InvalidUrl(f"An option of the URL is not allowed; allowed are: {known}.")
        if not isinstance(value, str) or not allowed[name](value):
            raise InvalidUrl(f"The option {name} has a value that is not allowed.")
        options[name] = value
    return options


def _sqlite(url: URL) -> Endpoint:
    if url.host or url.username or url.password or url.port:
        raise InvalidUrl("A SQLite URL has no host: sqlite:////folder/file.db.")
    if not url.database or not url.database.startswith("/"):
        raise InvalidUrl("The path of a SQLite file must be absolute: sqlite:////folder/file.db.")
    return Endpoint(engine=SQLITE, database=url.database)


def _server(engine: str, url: URL, options: Mapping[str, str]) -> Endpoint:
    if not url.host:
        raise InvalidUrl("The URL must name a host.")
    if as_address(url.host) is None and not _HOST_NAME.fullmatch(url.host):
        raise InvalidUrl("The host is neither a name nor an address; encode special characters of the password as %40.")
    if not url.username:
        # The drivers would take the name of the account this process runs under.
        raise InvalidUrl("The URL must name a user.")
    if engine == POSTGRESQL and not url.database:
        raise InvalidUrl("The URL must name a database.")
    port = url.port if url.port is not None else _DEFAULT_PORTS[engine]
    if not 0 < port < 65536:
        raise InvalidUrl("The port must lie between 1 and 65535.")
    return Endpoint(
        engine=engine,
        host=url.host,
        port=port,
        database=url.database or None,
        username=url.username,
        password=url.password or None,
        options=options,
    )


def as_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address a host is, None where it is a name."""
    if "%" in host:
        return None
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
