"""The example receivers, run as people run them, and what a platform sends them; signatures by public key."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook

from devstack.ports import free_port
from tests.acceptance.platform import Person, Platform
from tests.acceptance.receiver import Receiver
from tests.acceptance.waiting import until

pytestmark = pytest.mark.xdist_group("platform")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NODE_FOLDER = Path(__file__).with_name("node")
SECRET = "whsec_" + base64.b64encode(b"only for this test").decode()


class Application:
    """A receiver on a port of its own; stopped and started, it keeps that."""

    def __init__(self, command: Sequence[str], folder: Path, log: Path) -> None:
        self._command = command
        self._folder = folder
        self._log = log
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it takes webhooks."""
        return f"http://127.0.0.1:{self._port}/webhooks"

    @property
    def said(self) -> str:
        """All it has printed."""
        return self._log.read_text()

    def start(self, secret: str) -> None:
        """Start it, or stop it and start it anew, with the secret of an endpoint."""
        self.stop()
        environment = {"PATH": os.environ["PATH"], "WEBHOOK_SECRET": secret, "PORT": str(self._port)}
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        until(self._answers, lambda: f"the receiver; it says:\n{self.said}")

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def wait_for(self, words: str) -> None:
        """Return when it has printed this."""
        __tracebackhide__ = True
        until(lambda: words in self.said, lambda: f"{words!r} of the receiver; it says:\n{self.said}")

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
            return True
        return False


@pytest.fixture(params=["flask", "express"])
def application(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    """Each example."""
    folder = EXAMPLES / f"webhook-receiver-{request.param}"
    command = [sys.executable, "app.py"]
    if request.param == "express":
        # Beside the npm packages that it imports.
        sources, folder = folder, request.getfixturevalue("node_folder") / "receiver"
        shutil.copytree(sources, folder, dirs_exist_ok=True)
        command = ["node", "server.js"]
    application = Application(command, folder, tmp_path / "receiver.log")
    yield application
    application.stop()


def sent(person: Person, webhook: Any) -> list[tuple[str, str, int]]:
    """Type, status and number of attempts of what was sent to an endpoint, the oldest first."""
    deliveries = person.get(f"/api/webhooks/{webhook['id']}/deliveries?limit=100")["data"]
    return [(each["eventType"], each["status"], len(each["attempts"])) for each in reversed(deliveries)]


def states(person: Person, webhook: Any) -> set[str]:
    return {status for _, status, _ in sent(person, webhook)}


def test_an_example_takes_what_comes_also_while_its_secret_is_exchanged(
    application: Application, platform: Platform
) -> None:
    person = platform.newcomer()
    webhook = person.add_webhook(application.url, "all")
    application.start(webhook["secret"])
    failing = person.submit(payload={"steps": 2, "sleepMs": 200, "failAt": 2, "permanent": True})
    application.wait_for(f"{failing} Demo steps is at ")
    application.wait_for(f"{failing} Demo steps failed: Failed for good at step 2")
    rotated = person.ask("POST", f"/api/webhooks/{webhook['id']}/rotate-secret")
    assert rotated["secret"] != webhook["secret"]
    assert datetime.fromisoformat(rotated["oldSecretValidUntil"]) > datetime.now(UTC)
    before = person.submit()
    application.wait_for(f"{before} Demo steps completed: ")
    # What is still on its way would find nobody while the application starts anew.
    until(lambda: states(person, webhook) == {"delivered"}, "all that was sent so far")
    application.start(rotated["secret"])
    after = person.submit()
    application.wait_for(f"{after} Demo steps completed: ")
    assert "refused" not in application.said
    until(lambda: states(person, webhook) == {"delivered"}, "the record of it")
    assert {attempts for _, _, attempts in sent(person, webhook)} == {1}


def test_an_example_drops_doubles_and_forgeries_and_leaves_what_it_does_not_know(application: Application) -> None:
    application.start(SECRET)

    def answer(webhook_id: str, event: Any, **changed: str) -> int:
        now = datetime.now(UTC).replace(microsecond=0)
        body = json.dumps(event)
        headers = {
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(SECRET).sign(webhook_id, now, body),
        }
        changes = {f"webhook-{name}": value for name, value in changed.items()}
        return requests.post(application.url, data=body, headers=headers | changes, timeout=10).status_code

    completed = {"type": "job.completed", "data": {"id": "job-1", "jobname": "Mine", "result": "for once"}}
    assert [answer("msg-1", completed), answer("msg-1", completed)] == [204, 204]
    assert answer("msg-2", {"type": "of.tomorrow", "data": {}}) == 204
    assert answer("msg-3", completed, id="msg-4") == 401
    for signature in ("v1,AAAA", "v1,nonsense!", "nonsense", "v1a,AAAA"):
        assert answer("msg-5", completed, signature=signature) == 401, signature
    assert requests.post(application.url, timeout=10).status_code == 401
    application.wait_for("msg-1 came again")
    assert application.said.count("for once") == 1


def test_a_public_key_verifies_what_the_secret_verifies_too(platform: Platform, receiver: Receiver) -> None:
    person = platform.newcomer()
    fields = {"url": receiver.url, "eventType": "completed", "signatureScheme": "v1a"}
    webhook = person.ask("POST", "/api/webhooks", fields, 201)
    post = receiver.first(person.submit(), "job.completed")
    assert Webhook(webhook["secret"]).verify(post.body.decode(), post.headers) == post.document
    key = person.get(f"/api/webhooks/{webhook['id']}")["publicKey"]
    assert is_signed(post.headers, post.body, key)
    assert not is_signed(post.headers, post.body + b" ", key)


def is_signed(headers: Mapping[str, str], body: bytes, key: str) -> bool:
    """Whether a signature `v1a` is of the key, as Standard Webhooks 1.0.0 has it."""
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.removeprefix("whpk_")))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    signatures = [each.removeprefix("v1a,") for each in headers["webhook-signature"].split() if each[:4] == "v1a,"]
    assert signatures
    for signature in signatures:
        with suppress(InvalidSignature):
            public.verify(base64.b64decode(signature), signed)
            return True
    return False


def test_the_express_example_asks_for_the_packages_it_is_tested_with() -> None:
    asked = json.loads((EXAMPLES / "webhook-receiver-express" / "package.json").read_text())["dependencies"]
    tested = json.loads((NODE_FOLDER / "package.json").read_text())["dependencies"]
    assert asked.items() <= tested.items()
    locked = json.loads((NODE_FOLDER / "package-lock.json").read_text())["packages"]
    assert not [name for name, entry in locked.items() if "resolved" in entry]
