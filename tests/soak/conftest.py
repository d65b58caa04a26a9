"""One soak for all of its tests; on failure each of them tells what it was."""

from __future__ import annotations

import random
from collections.abc import Generator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from devstack.postgres import PostgresServer
from tests.acceptance.platform import Platform
from tests.acceptance.receiver import Post, Receiver
from tests.soak.scale import Scale
from tests.soak.soaking import Soak, soak
from tests.soak.summary import summary

_REFUSED_POSTS = 0.02


@pytest.fixture(scope="session")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> Soak:
    """What there is to be judged after the soak."""
    scale = Scale.from_environment()
    folder = tmp_path_factory.mktemp("soak")
    print(f"\nSoaking with CARILLON_SOAK_SEED={scale.seed}; logs are in {folder}", flush=True)
    # Tokens outlive the soak, and workers that stop hand back what takes longer than most jobs.
    settings = {"ACCESS_TOKEN_SECONDS": "7200", "SHUTDOWN_GRACE_SECONDS": "1"}
    platform = Platform(folder, **settings)
    # Not below pytest's own folder: a second run beside this one closes it to the server's account, and a server that
    # cannot write its control file ends.
    with TemporaryDirectory(prefix="carillon-soak-") as data:
        # A server that forgets when it is killed would lose what was accepted.
        platform.stack.postgres = PostgresServer(Path(data), durable=True)
        with platform, Receiver(_refuses_some(scale.seed)) as receiver:
            result = soak(platform, receiver, scale)
    print(summary(result), flush=True)
    return result


def _refuses_some(seed: int) -> Any:
    """Answers a few deliveries with 500 when they come for the first time."""
    chance = random.Random(f"{seed} receiver")
    seen: set[str] = set()

    def answer(post: Post) -> int:
        is_new = post.webhook_id not in seen
        seen.add(post.webhook_id)
        return 500 if is_new and chance.random() < _REFUSED_POSTS else 204

    return answer


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Show with a failure what the soak was."""
    report = yield
    if report.failed and isinstance(result := getattr(item, "funcargs", {}).get("soaked"), Soak):
        report.sections.append(("the soak", summary(result)))
    return report
