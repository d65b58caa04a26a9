"""Platforms for all acceptance tests: one that nothing happens to, one that suffers, one with plug-ins."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from devstack import programs
from devstack.ports import free_port
from tests.acceptance.mail_server import MailServer
from tests.acceptance.platform import Platform
from tests.acceptance.plugins import copy_of_example, install, install_confidential
from tests.acceptance.receiver import Receiver
from tests.acceptance.sends import MESSAGE_RETRY_SECONDS
from tests.acceptance.waiting import until

NODE_FOLDER = Path(__file__).with_name("node")


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A whole platform in good order."""
    with Platform(tmp_path_factory.mktemp("platform")) as platform:
        yield platform


@pytest.fixture(scope="session")
def suffering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A whole platform that the fault tests stop, kill and restart; each leaves it healthy."""
    # What happens while a client comes back is to be there for it: with the usual length only some two seconds of news.
    with Platform(tmp_path_factory.mktemp("suffering"), EVENT_LOG_LENGTH="10000") as platform:
        yield platform


@pytest.fixture(scope="session")
def mail_server() -> Iterator[MailServer]:
    """Where the mails of the platform `notifying` go."""
    with MailServer() as server:
        yield server


@pytest.fixture(scope="session")
def whatsapp() -> Iterator[Receiver]:
    """In place of a WAHA server."""
    with Receiver(lambda post: 201) as receiver:
        yield receiver


@pytest.fixture(scope="session")
def notifying(
    tmp_path_factory: pytest.TempPathFactory, mail_server: MailServer, whatsapp: Receiver
) -> Iterator[Platform]:
    """A whole platform that sends mails and WhatsApp messages to servers of the tests."""
    environment = {
        "SMTP_URL": f"smtp://127.0.0.1:{mail_server.port}",
        "MESSAGE_RETRY_SECONDS": str(MESSAGE_RETRY_SECONDS),
        "WHATSAPP_PROVIDER": "waha",
        "WAHA_URL": whatsapp.url.removesuffix("/hook"),
    }
    with Platform(tmp_path_factory.mktemp("notifying"), **environment) as platform:
        yield platform


@pytest.fixture(scope="session")
def example_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sample plug-in."""
    return copy_of_example(tmp_path_factory.mktemp("example"))


@pytest.fixture(scope="session")
def plugged(tmp_path_factory: pytest.TempPathFactory, example_sources: Path) -> Iterator[Platform]:
    """A whole platform with job types of other packages: the sample plug-in's, and the tests' own."""
    packages = tmp_path_factory.mktemp("packages")
    install(example_sources, packages)
    install_confidential(packages)
    var_folder = tmp_path_factory.mktemp("plugged")
    environment = {
        "PYTHONPATH": str(packages),
        "CHECKSUM_ROOTS": str(var_folder / "downloads"),
        "FLOWER_UNAUTHENTICATED_API": "true",
    }
    with Platform(var_folder, **environment) as platform:
        yield platform


@pytest.fixture(scope="session")
def threading_node(platform: Platform) -> Iterator[str]:
    """The address of a second web node, which serves with threads instead of eventlet."""
    port = free_port()
    program = programs.web(port, "web-threading")
    environment = {**program.environment, "SOCKETIO_ASYNC_MODE": "threading"}
    process = platform.stack.add(replace(program, environment=environment, essential=False))
    url = f"http://127.0.0.1:{port}"
    until(lambda: _answers(url), lambda: f"the threading node; its log ends:\n{process.log_tail()}", 60)
    yield url
    process.stop()


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/api/health", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A webhook receiver that accepts everything."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the Node client and the npm packages it needs."""
    if not shutil.which("npm"):
        _without("Node and npm are not installed")
    folder = tmp_path_factory.mktemp("node") / "client"
    shutil.copytree(NODE_FOLDER, folder, ignore=shutil.ignore_patterns("node_modules"))
    command = ["npm", "ci", "--no-audit", "--no-fund", "--prefer-offline"]
    outcome = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=100)
    if outcome.returncode:
        _without(f"npm could not install socket.io-client:\n{outcome.stderr}")
    return folder


def _without(reason: str) -> None:
    """A missing service skips a test on a laptop and fails it where green has to mean tested."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Show with a failure what the processes of its platform said."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Platform):
                report.sections.extend((f"end of the log of {name}", tail) for name, tail in value.logs())
    return report
