"""The web process: `python wsgi.py`, or `wsgi:app` under a server of its own."""

# ruff: noqa: E402 - what is patched must be patched before anything else is imported
import functools
import os
import socket
import warnings

from dotenv import load_dotenv

load_dotenv()
if os.environ.get("SOCKETIO_ASYNC_MODE", "eventlet") == "eventlet":
    # Its maintenance is known and weighed (SOCKETIO_ASYNC_MODE is the way out); no need to print it at each start.
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    import eventlet

    eventlet.monkey_patch()

    import eventlet.wsgi

    class Protocol(eventlet.wsgi.HttpProtocol):  # type: ignore[misc]  # eventlet publishes no types
        """HTTP over connections on which nothing waits for an acknowledgement, which clients delay by 40 ms."""

        # A socket has both buffers for as long as it is connected, and needs neither.
        rbufsize = wbufsize = 2048

        def setup(self) -> None:
            """Prepare a connection."""
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            super().setup()

    # It answers what escapes the application with a traceback, and keeps the events of a stream until there are 4 KiB
    # of them, unless told not to; and socketio.run cannot tell it.
    eventlet.wsgi.server = functools.partial(eventlet.wsgi.server, debug=False, minimum_chunk_size=1, protocol=Protocol)

    from psycogreen.eventlet import patch_psycopg

    patch_psycopg()

import gc
import resource
import signal
import sys
from types import FrameType

from service import create_app
from service.realtime import realtime
from service.settings import Settings
from tasks import load_job_types

MAXIMUM_CONNECTIONS = 20_000
STOP_LOOK_SECONDS = 0.1
# So many are made before the collector looks at them: a rush of events makes thousands that end by themselves.
YOUNG_OBJECTS = 50_000

settings = Settings.from_env()
load_job_types()
app = create_app(settings)


def main() -> None:
    """Serve until SIGTERM or SIGINT: then what is being answered is finished, and who listens is hung up on."""
    with app.app_context():
        clients = realtime()
    socketio = clients.socketio
    asked: list[int] = []

    def stop(signal_number: int, _frame: FrameType | None) -> None:
        asked.append(signal_number)
        if settings.async_mode == "threading":
            sys.exit(0)

    def end() -> None:
        # A signal finds any greenlet: an exit that is raised in a request's would end that request and nothing else.
        while not asked:
            socketio.sleep(STOP_LOOK_SECONDS)
        # The server waits for its requests, and streams and sockets are requests that do not end.
        try:
            clients.hang_up()
        finally:
            sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    # Each socket is a file, and the usual limit of files is a thousand.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    options: dict[str, object] = {"allow_unsafe_werkzeug": True}
    if settings.async_mode == "eventlet":
        from service.realtime.frames import guard_frames

        # A silent connection is given up; a WebSocket is never silent for so long, because it is pinged.
        silence = (settings.ping_interval + settings.ping_timeout) / 1000
        options = {"max_size": MAXIMUM_CONNECTIONS, "socket_timeout": silence}
        guard_frames()
        socketio.start_background_task(end)
    # What was loaded stays: the collector need not look through it again and again while clients wait.
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 50)
    socketio.run(app, host=settings.host, port=settings.port, **options)


if __name__ == "__main__":
    main()
