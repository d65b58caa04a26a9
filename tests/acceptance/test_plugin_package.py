"""The sample plug-in as its reader uses it: installed into a folder, found by web process and worker, run, tested."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.platform import Platform

pytestmark = pytest.mark.xdist_group("platform")


@pytest.fixture
def downloads(plugged: Platform) -> Path:
    """The folder that the plug-in may read, with two files."""
    folder = plugged.stack.settings.var_folder / "downloads"
    (folder / "disc").mkdir(parents=True, exist_ok=True)
    (folder / "disc" / "one.iso").write_bytes(b"1" * 3_000_000)
    (folder / "disc" / "two.iso").write_bytes(b"")
    return folder


def test_its_own_tests_pass(example_sources: Path, tmp_path: Path) -> None:
    # Left to choose, it would close pytest's own folder to other accounts, while their servers have their data in it.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += [f"--basetemp={tmp_path / 'pytest'}"]
    outcome = subprocess.run(command, cwd=example_sources, capture_output=True, text=True, check=False, timeout=100)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert " passed" in outcome.stdout


def test_its_type_is_listed_with_the_schema_of_its_payload(plugged: Platform) -> None:
    listed = {kind["name"]: kind for kind in plugged.newcomer().get("/api/job-types")["data"]}
    kind = listed["checksum-files"]
    assert (kind["title"], kind["stages"]) == ("Checksums", ["Listing files", "Reading files"])
    assert kind["payload"]["required"] == ["folder"]
    assert kind["payload"]["properties"]["folder"] == {"type": "string", "minLength": 1, "maxLength": 4096}
    assert kind["payload"]["properties"]["pattern"]["default"] == "*"
    assert kind["defaults"]["retryLimit"] == 2
    assert "SHA256SUMS" in kind["description"]


def test_a_job_of_its_type_runs(plugged: Platform, downloads: Path) -> None:
    person = plugged.newcomer()
    with person.socket() as socket:
        job_id = person.submit("checksum-files", {"folder": str(downloads), "pattern": "*.iso"})
        socket.journal.first("job:completed", job_id)
        told = socket.journal.about(job_id, "job:progress")
    job = person.job(job_id)
    assert (job["status"], job["result"]) == ("completed", {"files": 2, "unreadable": []})
    assert job["progress"]["percentage"] == 100
    assert told[0].data["progress"]["message"] == "Listing files"
    [artifact] = person.get(f"/api/jobs/{job_id}/artifacts")["data"]
    listed = person.send("GET", f"/api/jobs/{job_id}/artifacts/{artifact['id']}").text
    assert listed.splitlines() == [
        f"{hashlib.sha256(b'1' * 3_000_000).hexdigest()}  disc/one.iso",
        f"{hashlib.sha256(b'').hexdigest()}  disc/two.iso",
    ]


def test_what_it_refuses_is_answered_with_the_field(plugged: Platform) -> None:
    body = {"type": "checksum-files", "payload": {"folder": "/etc"}}
    refused = plugged.newcomer().ask("POST", "/api/jobs", body, 422)
    assert refused["errors"] == {"payload.folder": ["Must be a folder below one of CHECKSUM_ROOTS."]}
