"""Every setting of the platform, read once from the environment into one frozen object."""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from email.utils import parseaddr
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from flask import current_app
from phonenumbers import SUPPORTED_REGIONS

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DEVELOPMENT_SECRET = "development-only-secret-do-not-use-in-production"  # noqa: S105
# A fixed key for development: what it encrypts is as public as this line.
DEVELOPMENT_ENCRYPTION_KEY = "ZGV2ZWxvcG1lbnQtb25seS1rZXktMzItYnl0ZXMtISE="
MINIMUM_SECRET_LENGTH = 32


NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
# Seconds between two attempts at a delivery.
LONGEST_DELAY = 7 * 86_400
RESERVED_QUEUES = frozenset({"delivery", "housekeeping"})
_PROXY_URL = re.compile(
    r"https?://(?:[^\s:@/?#\[\]]+(?::[^\s:@/?#\[\]]*)?@)?(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})/?",
    re.ASCII,
)


class SettingsError(Exception):
    """A setting is missing or makes no sense; the message names the variable."""


def _text(value: str) -> str:
    return value


def _flag(value: str) -> bool:
    words = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    if value.lower() not in words:
        raise ValueError("must be true or false")
    return words[value.lower()]


def _positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise ValueError("must be 1 or more")
    return number


def _not_negative(value: str) -> int:
    number = int(value)
    if number < 0:
        raise ValueError("must be 0 or more")
    return number


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return value

    return parse


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if urlsplit(value).scheme not in schemes:
            raise ValueError(f"must be a URL beginning with {' or '.join(scheme + '://' for scheme in schemes)}")
        return value

    return parse


def _database_url(value: str) -> str:
    # Hosting providers hand out postgres:// and postgresql://; the driver is ours to choose.
    for prefix in ("postgres://", "postgresql://"):
        if value.startswith(prefix):
            return "postgresql+psycopg2://" + value.removeprefix(prefix)
    return _url("postgresql+psycopg2")(value)


def _words(value: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in value.split(",") if word.strip())


def _names(value: str) -> tuple[str, ...]:
    names = _words(value)
    if not names or len(set(names)) < len(names) or not all(NAME.fullmatch(name) for name in names):
        raise ValueError("must be different names of letters, digits, dots, dashes and underscores")
    if taken := set(names) & RESERVED_QUEUES:
        raise ValueError(f"must not name {' or '.join(sorted(taken))}: the platform's own work goes there")
    return names


def _networks(value: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(word) for word in _words(value))


def _delays(value: str) -> tuple[float, ...]:
    delays = tuple(float(word) for word in _words(value))
    if not 1 <= len(delays) <= 30 or delays[0] != 0 or not all(0 <= delay <= LONGEST_DELAY for delay in delays):
        raise ValueError(f"must be 1 to 30 numbers of seconds, the first 0 and the others {LONGEST_DELAY} at most")
    return delays


def _percent(value: str) -> float:
    number = float(value)
    if not 0 <= number <= 100:
        raise ValueError("must be 0 to 100")
    return number / 100


def _proxy_url(value: str) -> str:
    form = _PROXY_URL.fullmatch(value)
    if form is None or not 0 < int(form[1]) < 65536:
        # Without the value: it may hold a password.
        raise ValueError("must be http://[user:password@]host:port or https://…, user and password percent-encoded")
    urlsplit(value)  # knows what is an address in brackets
    return value


def _service_url(value: str) -> str:
    if not urlsplit(_url("http", "https")(value)).hostname:
        raise ValueError("must name a host")
    return value.rstrip("/")


def _smtp_urls(value: str) -> str:
    # Without the value: it may hold a password.
    for url in _words(value):
        parts = urlsplit(url)
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname or parts.port == 0:
            raise ValueError("must be smtp://[user:password@]host[:port] or smtps://…, several separated by commas")
    return value


def _sender(value: str) -> str:
    if "@" not in parseaddr(value)[1] or not value.isprintable():
        raise ValueError("must be an address, such as Carillon <carillon@example.com>")
    return value


def _some_of(*words: str) -> Callable[[str], tuple[str, ...]]:
    def parse(value: str) -> tuple[str, ...]:
        chosen = _words(value)
        if not set(chosen) <= set(words) or len(set(chosen)) < len(chosen):
            raise ValueError(f"must be some of {', '.join(words)}, comma separated")
        return chosen

    return parse


def _region(value: str) -> str:
    if value not in SUPPORTED_REGIONS:
        raise ValueError("must be a region of two letters, such as DE")
    return value


def _contact(value: str) -> str:
    # RFC 8292, 2.1.
    return _url("mailto", "https")(value)


def _folders(value: str) -> tuple[Path, ...]:
    return tuple(Path(word).expanduser().resolve() for word in value.split(":") if word)


def _folder(value: str) -> Path:
    return Path(value).expanduser().resolve()


def _storage_url(value: str) -> str:
    if "://" not in value:
        return f"file://{_folder(value)}"
    return _url("file", "s3")(value)


def _json_object(value: str) -> dict[str, Any]:
    try:
        options = json.loads(value)
    except ValueError:
        options = None
    if not isinstance(options, dict):
        # Without the value: it may hold a secret.
        raise ValueError("must be a JSON object")
    return options


def _keys(value: str) -> tuple[str, ...]:
    keys = _words(value)
    if not keys:
        raise ValueError("needs at least one key")
    for key in keys:
        Fernet(key.encode())
    return keys


def setting(name: str, parse: Callable[[str], Any], default: str | None, meaning: str, *, secret: bool = False) -> Any:
    """One field of Settings: its environment variable, parser, default as text (None: derived) and meaning."""
    return field(metadata={"name": name, "parse": parse, "default": default, "meaning": meaning, "secret": secret})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the processes of one installation agree on; see `carillon settings` for the list with meanings."""

    environment: str = setting(
        "CARILLON_ENV",
        _one_of("development", "test", "production"),
        "development",
        "development, test or production",
    )
    host: str = setting("HOST", _text, "127.0.0.1", "address the web process listens on")
    port: int = setting("PORT", _positive, "5000", "port of the web process")
    trusted_proxies: int = setting(
        "TRUSTED_PROXIES", _not_negative, "0", "proxies before the web process whose X-Forwarded-* headers are believed"
    )
    flower_port: int = setting("FLOWER_PORT", _positive, "5555", "port of Flower")
    var_dir: Path = setting("CARILLON_VAR_DIR", _folder, "var", "data of the embedded servers, artifacts")
    admin_username: str = setting("CARILLON_ADMIN_USERNAME", _text, "admin", "name of the first administrator")
    admin_password: str = setting(
        "CARILLON_ADMIN_PASSWORD",
        _text,
        "",
        "password of the first administrator; made up when not set",
        secret=True,
    )
    secret_key: str = setting(
        "SECRET_KEY", _text, DEVELOPMENT_SECRET, "signs tokens; 32 characters or more", secret=True
    )
    encryption_keys: tuple[str, ...] = setting(
        "ENCRYPTION_KEYS",
        _keys,
        DEVELOPMENT_ENCRYPTION_KEY,
        "Fernet keys, comma separated; the first encrypts, all decrypt",
        secret=True,
    )
    database_url: str = setting(
        "DATABASE_URL",
        _database_url,
        "postgresql://localhost/carillon",
        "PostgreSQL 14 or newer",
        secret=True,
    )
    database_pool_size: int = setting("DATABASE_POOL_SIZE", _positive, "20", "connections kept per process")
    redis_url: str = setting(
        "REDIS_URL",
        _url("redis", "rediss"),
        "redis://localhost:6379/0",
        "event log, wake-ups, limits",
        secret=True,
    )
    broker_url: str = setting(
        "BROKER_URL", _text, None, "Celery's broker: Redis or RabbitMQ; REDIS_URL if not set", secret=True
    )
    result_backend: str = setting("RESULT_BACKEND", _text, None, "Celery's results; REDIS_URL if not set", secret=True)
    cors_origins: tuple[str, ...] = setting(
        "WEBSOCKET_CORS_ORIGIN",
        _words,
        "",
        "origins whose pages may call the API and open sockets, comma separated; empty: the same origin only",
    )
    ping_interval: int = setting(
        "WEBSOCKET_PING_INTERVAL", _positive, "25000", "milliseconds between pings of a socket"
    )
    ping_timeout: int = setting(
        "WEBSOCKET_PING_TIMEOUT", _positive, "60000", "milliseconds before a silent socket is closed"
    )
    async_mode: str = setting(
        "SOCKETIO_ASYNC_MODE", _one_of("eventlet", "threading"), "eventlet", "how the web process serves"
    )
    max_concurrent_jobs: int = setting("MAX_CONCURRENT_JOBS", _positive, "5", "job processes of one worker")
    job_timeout_minutes: int = setting(
        "JOB_TIMEOUT_MINUTES", _positive, "30", "longest run of a job whose type says nothing else"
    )
    job_queues: tuple[str, ...] = setting(
        "JOB_QUEUES", _names, "default", "queues that jobs may use, comma separated; each needs a worker (-Q)"
    )
    cancel_grace_seconds: int = setting(
        "CANCEL_GRACE_SECONDS",
        _not_negative,
        "10",
        "seconds a running job has to obey a cancel before its process is killed",
    )
    shutdown_grace_seconds: int = setting(
        "SHUTDOWN_GRACE_SECONDS",
        _not_negative,
        "20",
        "seconds running jobs have to finish when a worker stops; then they are handed back, 5 s later killed",
    )
    user_concurrency: int | None = setting(
        "MAX_CONCURRENT_JOBS_PER_USER", _positive, None, "jobs of one user that run at once; no limit if not set"
    )
    tenant_concurrency: int | None = setting(
        "MAX_CONCURRENT_JOBS_PER_TENANT",
        _positive,
        None,
        "jobs of one organization that run at once; no limit if not set",
    )
    max_body_bytes: int = setting("MAX_BODY_BYTES", _positive, "1048576", "largest request body in bytes")
    access_token_seconds: int = setting("ACCESS_TOKEN_SECONDS", _positive, "900", "life of an access token")
    refresh_token_days: int = setting("REFRESH_TOKEN_DAYS", _positive, "30", "life of a refresh token")
    registration_open: bool = setting("REGISTRATION_OPEN", _flag, "true", "whether anybody may register")
    login_attempts_per_minute: int = setting(
        "RATE_LIMIT_LOGIN_PER_MINUTE", _positive, "10", "failed log-ins per user name and address before 429"
    )
    event_log_length: int = setting("EVENT_LOG_LENGTH", _positive, "2000", "events kept per user for replay")
    event_log_seconds: int = setting("EVENT_LOG_SECONDS", _positive, "86400", "seconds an idle user's events are kept")
    webhook_networks: tuple[Network, ...] = setting(
        "WEBHOOK_ALLOW_NETWORKS",
        _networks,
        "",
        "networks beyond the public ones that webhooks may reach, comma separated",
    )
    webhook_schedule: tuple[float, ...] = setting(
        "WEBHOOK_RETRY_SCHEDULE",
        _delays,
        "0,5,30,120,600,1800,7200,21600",
        "seconds before each attempt at a webhook, comma separated; the first is at once",
    )
    webhook_jitter: float = setting(
        "WEBHOOK_RETRY_JITTER", _percent, "20", "percent by which these delays are shortened or lengthened"
    )
    webhook_concurrency: int = setting(
        "WEBHOOK_CONCURRENCY", _positive, "64", "posts of one delivery process that go to one endpoint at once"
    )
    webhook_proxy_url: str | None = setting(
        "WEBHOOK_PROXY_URL",
        _proxy_url,
        None,
        "HTTP proxy that webhooks leave by, http://[user:password@]host:port or https://…; it is asked to CONNECT to "
        "addresses that are checked here, so allow it any port; without one they leave directly",
        secret=True,
    )
    connection_networks: tuple[Network, ...] | None = setting(
        "CONNECTION_ALLOW_NETWORKS",
        _networks,
        None,
        "networks that database connections may reach; development: any if not set",
    )
    connection_sqlite_roots: tuple[Path, ...] = setting(
        "CONNECTION_SQLITE_ROOTS",
        _folders,
        None,
        "folders that hold SQLite databases, colon separated; var/databases if not set",
    )
    media_roots: tuple[Path, ...] = setting(
        "MEDIA_ROOTS", _folders, None, "folders that hold libraries, colon separated; var/media if not set"
    )
    email_enabled: bool = setting(
        "EMAIL_NOTIFICATIONS_ENABLED",
        _flag,
        "true",
        "whether notifications go out by e-mail; mails about passwords always do",
    )
    smtp_url: str = setting(
        "SMTP_URL",
        _smtp_urls,
        "",
        "smtp://user:password@host:port or smtps://…; several, comma separated, are tried in order; empty: mails are "
        "kept under var/mail",
        secret=True,
    )
    mail_from: str = setting("MAIL_FROM", _sender, "Carillon <carillon@localhost>", "sender of the platform's mails")
    whatsapp_providers: tuple[str, ...] = setting(
        "WHATSAPP_PROVIDER",
        _some_of("twilio", "waha", "cloud"),
        "",
        "twilio, waha or cloud; several, comma separated, are tried in order; empty: no WhatsApp",
    )
    twilio_account_sid: str = setting("TWILIO_ACCOUNT_SID", _text, "", "account of Twilio")
    twilio_auth_token: str = setting("TWILIO_AUTH_TOKEN", _text, "", "its token", secret=True)
    twilio_from: str = setting("TWILIO_FROM", _text, "", "number with WhatsApp at Twilio, such as +14155238886")
    twilio_url: str = setting("TWILIO_URL", _service_url, "https://api.twilio.com", "Twilio's address")
    waha_url: str | None = setting("WAHA_URL", _service_url, None, "address of the WAHA server")
    waha_session: str = setting("WAHA_SESSION", _text, "default", "its session that sends")
    waha_api_key: str = setting("WAHA_API_KEY", _text, "", "its API key, if it wants one", secret=True)
    whatsapp_cloud_token: str = setting(
        "WHATSAPP_CLOUD_TOKEN", _text, "", "access token of the WhatsApp Cloud API", secret=True
    )
    whatsapp_cloud_phone_id: str = setting("WHATSAPP_CLOUD_PHONE_ID", _text, "", "its id of the number that sends")
    whatsapp_cloud_url: str = setting(
        "WHATSAPP_CLOUD_URL", _service_url, "https://graph.facebook.com/v25.0", "its address, with the version"
    )
    phone_default_region: str | None = setting(
        "PHONE_DEFAULT_REGION",
        _region,
        None,
        "region of phone numbers without a country code, such as DE; refused if not set",
    )
    push_contact: str = setting(
        "PUSH_CONTACT",
        _contact,
        None,
        "mailto: or https: address that push services may complain to; that of MAIL_FROM if not set",
    )
    push_apprise_urls: tuple[str, ...] = setting(
        "PUSH_APPRISE_URLS",
        _words,
        "",
        "Apprise URLs, comma separated, such as ntfys://ntfy.example.com/{username}, that take the pushes "
        "which no browser of their user takes (extra apprise); {username} and {user_id} are filled in",
        secret=True,
    )
    email_gather_seconds: int = setting(
        "EMAIL_GATHER_SECONDS", _positive, "10", "seconds in which such e-mails to one user become one"
    )
    critical_notification_types: tuple[str, ...] = setting(
        "CRITICAL_NOTIFICATION_TYPES",
        _words,
        "security",
        "types of notification that nobody can mute and no quiet hours hold, comma separated",
    )
    alert_failures: int = setting(
        "ALERT_FAILURES",
        _positive,
        "10",
        "failed jobs of one type and error that operators are alerted to, and an owner if all are his",
    )
    alert_window_seconds: int = setting(
        "ALERT_WINDOW_SECONDS", _positive, "300", "seconds within which so many have to fail"
    )
    alert_repeat_seconds: int = setting(
        "ALERT_REPEAT_SECONDS",
        _positive,
        "3600",
        "seconds before operators, or an owner, are alerted to the same again",
    )
    message_retry_seconds: int = setting(
        "MESSAGE_RETRY_SECONDS",
        _positive,
        "60",
        "seconds before a message that no provider took is tried again; then 5, 30 and 120 times as long",
    )
    artifacts_url: str = setting(
        "ARTIFACTS_URL",
        _storage_url,
        None,
        "where files that jobs leave are kept: a folder or s3://bucket/prefix (extra s3); var/artifacts if not set",
    )
    artifacts_options: dict[str, Any] | None = setting(
        "ARTIFACTS_OPTIONS",
        _json_object,
        None,
        "JSON options of that storage, such as key, secret and endpoint_url of s3fs",
        secret=True,
    )
    max_artifact_bytes: int = setting(
        "MAX_ARTIFACT_BYTES", _positive, "104857600", "largest file that a job may leave, in bytes"
    )
    max_artifacts_per_job: int = setting(
        "MAX_ARTIFACTS_PER_JOB", _positive, "100", "files that one attempt of a job may leave"
    )
    artifact_retention_days: int = setting(
        "ARTIFACT_RETENTION_DAYS", _positive, "30", "life of a file whose job says nothing else"
    )
    job_retention_days: int = setting(
        "JOB_RETENTION_DAYS", _positive, "30", "days a job is kept after its end, with its attempts, logs and files"
    )
    notification_retention_days: int = setting(
        "NOTIFICATION_RETENTION_DAYS", _positive, "90", "days notifications and messages are kept, by whole months"
    )
    webhook_retention_days: int = setting(
        "WEBHOOK_RETENTION_DAYS", _positive, "30", "days webhook deliveries are kept, by whole months"
    )
    audit_retention_days: int = setting(
        "AUDIT_RETENTION_DAYS", _positive, "365", "days the audit log is kept, by whole months"
    )
    public_url: str = setting(
        "PUBLIC_URL", _text, None, "address people reach the platform under; http://localhost:PORT if not set"
    )
    log_level: str = setting(
        "LOG_LEVEL", _one_of("debug", "info", "warning", "error"), "info", "least level that is logged"
    )
    log_format: str = setting("LOG_FORMAT", _one_of("text", "json"), "text", "text for people, json for collectors")

    @property
    def is_production(self) -> bool:
        """True where secrets must be real and networks listed."""
        return self.environment == "production"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Settings of this process; raises SettingsError naming every variable that is wrong."""
        values = os.environ if environ is None else environ
        parsed: dict[str, Any] = {}
        wrong: list[str] = []
        for item in fields(cls):
            about = item.metadata
            text = values.get(about["name"], "") or about["default"]
            try:
                parsed[item.name] = None if text is None else about["parse"](text)
            except ValueError as error:
                wrong.append(f"{about['name']} {error}")
        if wrong:
            raise SettingsError("; ".join(wrong))
        _derive(parsed)
        settings = cls(**parsed)
        _check(settings)
        return settings


def _derive(parsed: dict[str, Any]) -> None:
    parsed["broker_url"] = parsed["broker_url"] or parsed["redis_url"]
    parsed["result_backend"] = parsed["result_backend"] or parsed["redis_url"]
    parsed["push_contact"] = parsed["push_contact"] or f"mailto:{parseaddr(parsed['mail_from'])[1]}"
    parsed["public_url"] = (parsed["public_url"] or f"http://localhost:{parsed['port']}").rstrip("/")
    parsed["connection_sqlite_roots"] = parsed["connection_sqlite_roots"] or (parsed["var_dir"] / "databases",)
    parsed["artifacts_url"] = parsed["artifacts_url"] or f"file://{parsed['var_dir']}/artifacts"
    parsed["media_roots"] = parsed["media_roots"] or (parsed["var_dir"] / "media",)
    if parsed["connection_networks"] is None and parsed["environment"] == "production":
        parsed["connection_networks"] = ()


def _check(settings: Settings) -> None:
    if len(settings.secret_key) < MINIMUM_SECRET_LENGTH:
        raise SettingsError(f"SECRET_KEY must have {MINIMUM_SECRET_LENGTH} characters or more")
    is_public = settings.host not in {"127.0.0.1", "localhost", "::1"}
    if settings.secret_key == DEVELOPMENT_SECRET and is_public:
        raise SettingsError("SECRET_KEY must be set where HOST is not the loopback address: the default one is public")
    if settings.artifacts_url.startswith("s3:") and find_spec("s3fs") is None:
        raise SettingsError("ARTIFACTS_URL needs the extra s3: pip install 'carillon[s3]'")
    _check_providers(settings)
    if not settings.is_production:
        return
    if settings.secret_key == DEVELOPMENT_SECRET:
        raise SettingsError("SECRET_KEY must be set in production")
    if DEVELOPMENT_ENCRYPTION_KEY in settings.encryption_keys:
        raise SettingsError("ENCRYPTION_KEYS must be set in production")


# What each provider cannot do without: fields of Settings.
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "twilio": ("twilio_account_sid", "twilio_auth_token", "twilio_from"),
    "waha": ("waha_url",),
    "cloud": ("whatsapp_cloud_token", "whatsapp_cloud_phone_id"),
}


def _check_providers(settings: Settings) -> None:
    names = {item.name: item.metadata["name"] for item in fields(settings)}
    for provider in settings.whatsapp_providers:
        if missing := [names[each] for each in _NEEDS[provider] if not getattr(settings, each)]:
            raise SettingsError(f"WHATSAPP_PROVIDER names {provider}, which needs {', '.join(missing)}")
    if settings.push_apprise_urls:
        _check_apprise(settings.push_apprise_urls)


def _check_apprise(urls: tuple[str, ...]) -> None:
    if find_spec("apprise") is None:
        raise SettingsError("PUSH_APPRISE_URLS needs the extra apprise: pip install 'carillon[apprise]'")
    from apprise import Apprise

    for number, url in enumerate(urls, 1):
        # Without the value: it may hold a password.
        if Apprise.instantiate(url.replace("{username}", "name").replace("{user_id}", "id")) is None:
            raise SettingsError(f"PUSH_APPRISE_URLS: Apprise does not understand the URL at place {number}")


def current_settings() -> Settings:
    """The settings of the application at hand."""
    return cast(Settings, current_app.extensions["carillon_settings"])
