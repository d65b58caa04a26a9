"""`carillon listen` against a whole platform: what it shows, hands on, and leaves behind, which is nothing."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from standardwebhooks import Webhook

from devstack.settings import PROJECT_FOLDER
from tests.acceptance.platform import PASSWORD, Person, Platform
from tests.acceptance.receiver import Receiver
from tests.acceptance.terminals import CARILLON, Shell
from tests.acceptance.waiting import until

pytestmark = pytest.mark.xdist_group("platform")

# Where the README's reader has an application; a test's has a port of its own.
APPLICATION = "http://127.0.0.1:3000/hook"


@pytest.fixture
def person(platform: Platform) -> Person:
    return platform.newcomer()


@pytest.fixture
def shell(person: Person, tmp_path: Path) -> Shell:
    """The shell of somebody who has logged in."""
    shell = Shell(tmp_path)
    said = shell.run("login", "--url", person.url, "--username", person.username, "--password-stdin", stdin=PASSWORD)
    assert said.returncode == 0, said
    return shell


class Ear:
    """A listener whose output a program reads."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        assert process.stderr
        self.process = process
        self._output = process.stdout
        introduction = process.stderr.readline() + process.stderr.readline()
        self.url = self._found(r"at (http://127\.0\.0\.1:\d+/);", introduction)
        self.secret = self._found(r"(whsec_\S+)", introduction)

    def next(self) -> Any:
        """What arrived next."""
        return json.loads(self._output.readline())

    def post(self, body: bytes, headers: Mapping[str, str]) -> int:
        """The status that is answered to a webhook."""
        return requests.post(self.url, data=body, headers=headers, timeout=10).status_code

    def end(self, number: signal.Signals) -> int:
        """The exit code after a signal."""
        self.process.send_signal(number)
        return self.process.wait(20)

    def _found(self, pattern: str, said: str) -> str:
        found = re.search(pattern, said)
        assert found, said
        return found[1]


@contextmanager
def listening(shell: Shell, *options: str) -> Iterator[Ear]:
    with shell.start("listen", "--json", *options) as process:
        try:
            yield Ear(process)
        finally:
            process.kill()


def endpoints(person: Person) -> list[str]:
    return [webhook["url"] for webhook in person.get("/api/webhooks")["data"]]


def readme() -> list[str]:
    """The commands that the README shows for this."""
    block = (PROJECT_FOLDER / "README.md").read_text().partition("### See your webhooks arrive")[2].split("```")[1]
    return block.splitlines()[1:]


def test_the_commands_of_the_readme_are_those_that_are_tested() -> None:
    assert readme() == ["carillon listen", f"carillon listen --forward {APPLICATION}"]


@pytest.mark.parametrize("number", [0, 1])
def test_what_arrives_is_shown_in_a_terminal_and_handed_on_as_the_readme_says_until_ctrl_c(
    shell: Shell, person: Person, receiver: Receiver, number: int
) -> None:
    program, *arguments = shlex.split(readme()[number].replace(APPLICATION, receiver.url))
    assert Path(CARILLON).name == program
    with shell.terminal(*arguments) as terminal:
        terminal.wait_for("Secret of this endpoint: whsec_")
        job_id = person.submit()
        terminal.wait_for("job.completed")
        terminal.wait_for('"result"')
        assert re.search(r"job\.completed  \S+  ✓ verified  answered 204", terminal.text), terminal.text
        assert job_id in terminal.text
        assert len(receiver.posts(job_id, "job.completed")) == number
        assert len(endpoints(person)) == 1
        terminal.type("\x03")
        assert terminal.exit_code() == 130, terminal.text
        assert "Traceback" not in terminal.text
    assert endpoints(person) == []


def test_an_application_gets_what_is_verified_as_it_came(shell: Shell, person: Person) -> None:
    with ExitStack() as application:
        receiver = application.enter_context(Receiver(lambda post: 299))
        with listening(shell, "--event", "completed", "--forward", receiver.url) as ear:
            job_id = person.submit()
            shown = ear.next()
            assert (shown["type"], shown["verified"], shown["time"]) == ("job.completed", True, 1)
            assert shown["answered"] == 299
            (post,) = receiver.posts()
            assert Webhook(ear.secret).verify(post.body.decode(), post.headers) == shown["body"]
            assert (shown["webhookId"], shown["body"]["data"]["id"]) == (post.webhook_id, job_id)
            # As if the answer had been lost on its way.
            assert ear.post(post.body, post.headers) == 299
            assert ear.next()["time"] == 2
            assert ear.post(b"{}", post.headers) == 401
            assert "No signature" in ear.next()["reason"]
            assert len(receiver.posts()) == 2
            application.close()
            assert ear.post(post.body, post.headers) == 502
            assert "cannot be reached" in ear.next()["trouble"]
            assert ear.end(signal.SIGTERM) == 128 + signal.SIGTERM
    assert endpoints(person) == []


def test_nothing_is_left_of_a_listener_that_could_not_end(shell: Shell, person: Person) -> None:
    person.add_webhook("http://127.0.0.1:9/mine")
    with listening(shell) as killed:
        killed.end(signal.SIGKILL)
    with listening(shell, "--format", "flat") as ear:
        assert sorted(endpoints(person)) == sorted([ear.url, "http://127.0.0.1:9/mine"])
        # What it was to be read by has gone.
        ear.process.stdout.close()
        person.submit()
        assert ear.process.wait(20) == 1
    until(lambda: endpoints(person) == ["http://127.0.0.1:9/mine"], "the deletion")


def test_addresses_that_cannot_be_used_are_explained(shell: Shell, person: Person) -> None:
    for options, words in (
        (("--url", "http://10.0.0.1/hook"), "setting WEBHOOK_ALLOW_NETWORKS"),
        (("--port", person.url.rpartition(":")[2]), "cannot be used: Address already in use."),
    ):
        said = shell.run("listen", *options)
        assert (said.returncode, said.stdout) == (1, ""), said
        assert words in said.stderr
        assert len(said.stderr.splitlines()) == 1, said.stderr
    assert endpoints(person) == []
