"""Receives Carillon's webhooks: verifies each, drops what came before, answers at once and works afterwards."""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, request
from standardwebhooks import Webhook, WebhookVerificationError

Event = dict[str, Any]

BODY_LIMIT = 5 * 2**20
# Ids of webhooks that are known again, and events that wait for their turn.
REMEMBERED = 10_000
WAITING = 1_000

log = logging.getLogger("receiver")


class Inbox:
    """What was accepted and waits for its turn, and the ids of all that was accepted lately."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._waiting: queue.Queue[Event] = queue.Queue(WAITING)

    def accept(self, webhook_id: str, event: Event) -> bool:
        """Keep an event; False if it is kept already. Raises queue.Full."""
        with self._lock:
            if webhook_id in self._ids:
                return False
            # Before the id: what could not be kept has to be accepted when it is sent again.
            self._waiting.put_nowait(event)
            self._ids[webhook_id] = None
            if len(self._ids) > REMEMBERED:
                self._ids.popitem(last=False)
            return True

    def take(self) -> Event:
        """The next event; waits for it."""
        return self._waiting.get()


def on_completed(job: Event) -> None:
    """A job has completed."""
    log.info("%s %s completed: %s", job["id"], job["jobname"], job["result"])


def on_failed(job: Event) -> None:
    """A job has failed for good."""
    log.info("%s %s failed: %s", job["id"], job["jobname"], job["error"])


def on_progress(job: Event) -> None:
    """A job goes on."""
    log.info("%s %s is at %s %%", job["id"], job["jobname"], job["progress"]["percentage"])


HANDLERS: dict[str, Callable[[Event], None]] = {
    "job.completed": on_completed,
    "job.failed": on_failed,
    "job.progress": on_progress,
}


def work(inbox: Inbox) -> None:
    """Deal with what was accepted, one event after the other, without end."""
    while True:
        event = inbox.take()
        try:
            # There will be types that this receiver does not know yet: they are accepted and left.
            handle = HANDLERS.get(event["type"])
            if handle is not None:
                handle(event["data"])
        except Exception:
            log.exception("%s could not be dealt with", event.get("type"))


def create_app(secret: str) -> Flask:
    """The receiver; `secret` is that of the endpoint."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = BODY_LIMIT
    webhook, inbox = Webhook(secret), Inbox()
    threading.Thread(target=work, args=(inbox,), daemon=True).start()

    @app.post("/webhooks")
    def receive() -> Response:
        try:
            # The bytes as they came: JSON that was parsed and written anew has another signature.
            event = webhook.verify(request.get_data(), dict(request.headers))
        except (WebhookVerificationError, ValueError) as error:
            # ValueError: headers that are no Base64, which the library does not catch.
            log.warning("refused: %s", error)
            return Response(status=401)
        webhook_id = request.headers["webhook-id"]
        try:
            if not inbox.accept(webhook_id, event):
                log.info("%s came again", webhook_id)
        except queue.Full:
            # It is sent again later.
            return Response(status=503, headers={"Retry-After": "10"})
        return Response(status=204)

    return app


logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
app = create_app(os.environ["WEBHOOK_SECRET"])

if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "8000")))
