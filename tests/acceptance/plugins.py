"""Packages of job types for a platform under test: the sample plug-in, and the types that the tests bring."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.factories import confidential

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "carillon-checksums"


def copy_of_example(folder: Path) -> Path:
    """The sources of the sample in a folder of their own: to build it leaves files beside them."""
    copied = folder / EXAMPLE.name
    shutil.copytree(EXAMPLE, copied, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    return copied


def install(sources: Path, target: Path) -> None:
    """Install a package into a folder as people do, but without a network; leaves files beside the sources."""
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "install", "--quiet", *offline, "--target", str(target), str(sources)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def install_confidential(target: Path) -> None:
    """Lay the sensitive type of the tests into a folder, with the entry point that names it."""
    module = Path(confidential.__file__)
    shutil.copy(module, target / "carillon_confidential.py")
    about = target / "carillon_confidential-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: carillon-confidential\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[carillon.jobs]\nconfidential = carillon_confidential\n")
