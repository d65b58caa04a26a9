"""The web process: `python wsgi.py`, or `wsgi:app` under a server of its own."""

# ruff: noqa: E402 - what is patched must be patched before anything else is imported
import functools
import os
import warnings

from dotenv import load_dotenv

load_dotenv()
if os.environ.get("SOCKETIO_ASYNC_MODE", "eventlet") == "eventlet":
    # Its maintenance is known and weighed (SOCKETIO_ASYNC_MODE is the way out); no need to print it at each start.
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    import eventlet

    eventlet.monkey_patch()

    import eventlet.wsgi

    # It answers what escapes the application with a traceback unless told not to, and socketio.run cannot tell it.
    eventlet.wsgi.server = functools.partial(eventlet.wsgi.server, debug=False)

    from psycogreen.eventlet import patch_psycopg

    patch_psycopg()

import resource
import signal
import sys
from types import FrameType

from service import create_app
from service.realtime import realtime
from service.settings import Settings
from tasks import load_job_types

MAXIMUM_CONNECTIONS = 20_000

settings = Settings.from_env()
load_job_types()
app = create_app(settings)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    with app.app_context():
        socketio = realtime().socketio
    # Each socket is a file, and the usual limit of files is a thousand.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    options: dict[str, object] = {"allow_unsafe_werkzeug": True}
    if settings.async_mode == "eventlet":
        # A silent connection is given up; a WebSocket is never silent for so long, because it is pinged.
        silence = (settings.ping_interval + settings.ping_timeout) / 1000
        options = {"max_size": MAXIMUM_CONNECTIONS, "socket_timeout": silence}
    socketio.run(app, host=settings.host, port=settings.port, **options)


if __name__ == "__main__":
    main()
