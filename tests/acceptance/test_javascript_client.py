"""The npm package `@carillon/client`: built, checked, tested on its own, and run against a whole platform."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.platform import Platform

pytestmark = [pytest.mark.xdist_group("platform"), pytest.mark.timeout(300)]

SOURCES = Path(__file__).resolve().parents[2] / "frontend" / "client"
OUTPUT_OF_OTHERS = shutil.ignore_patterns("node_modules", "dist")
SECONDS = 200


class Package:
    """A copy of the package, with what it depends on, built."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str, **environment: str) -> str:
        """What a command that succeeds prints."""
        __tracebackhide__ = True
        outcome = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, "NO_COLOR": "1", **environment},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if outcome.returncode:
            pytest.fail(f"{' '.join(command)}:\n{outcome.stdout[-8_000:]}\n{outcome.stderr[-4_000:]}", pytrace=False)
        return outcome.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Package]:
    """The package in a folder of its own, which is gone afterwards."""
    if not shutil.which("npm"):
        if os.environ.get("CI") == "true":
            pytest.fail("Node and npm are not installed")
        pytest.skip("Node and npm are not installed")
    folder = tmp_path_factory.mktemp("javascript") / "client"
    shutil.copytree(SOURCES, folder, ignore=OUTPUT_OF_OTHERS)
    package = Package(folder)
    package.run("npm", "ci", "--no-audit", "--no-fund", "--prefer-offline")
    package.run("npm", "run", "build")
    yield package
    shutil.rmtree(folder)


def test_its_types_hold(package: Package) -> None:
    package.run("npm", "run", "check")


def test_its_own_tests_pass(package: Package) -> None:
    package.run("npm", "test")


def test_plain_node_can_import_it_by_its_name(package: Package) -> None:
    script = """
        import { createClient } from "@carillon/client";
        import { useJobProgress } from "@carillon/client/react";
        console.log(createClient({ url: "http://localhost", token: "t" }).state, typeof useJobProgress);
    """
    assert package.run("node", "--input-type=module", "--eval", script).split() == ["closed", "function"]


def test_only_what_is_built_is_published(package: Package) -> None:
    (packed,) = json.loads(package.run("npm", "pack", "--dry-run", "--json", "--ignore-scripts"))
    names = {each["path"] for each in packed["files"]}
    assert {"package.json", "dist/index.js", "dist/index.d.ts", "dist/react.js", "dist/react.d.ts"} <= names
    assert all(name == "package.json" or name.startswith("dist/") for name in names)


def test_its_lock_file_names_no_registry() -> None:
    locked = json.loads((SOURCES / "package-lock.json").read_text())
    assert not [name for name, entry in locked["packages"].items() if "resolved" in entry]


def test_it_works_with_a_whole_platform(package: Package, platform: Platform) -> None:
    package.run("npm", "run", "acceptance", CARILLON_URL=platform.url)
