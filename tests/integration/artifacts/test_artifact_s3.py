"""The storage in a bucket of S3: the same promises as in a folder, from eventlet's processes too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.artifacts.errors import ArtifactTooLarge
from service.artifacts.storage import FileKey, Storage, storage
from service.ids import new_id
from tests.integration.artifacts.conftest import RunningJob

s3fs = pytest.importorskip("s3fs", reason="needs the extra s3")
moto_server = pytest.importorskip("moto.server", reason="needs moto[s3,server]")

# A little more than two parts of an upload.
LARGE = 20 * 1024 * 1024


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of an S3 of our own with a bucket."""
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    s3fs.S3FileSystem(**options(url)).mkdir("bucket")
    yield url
    server.stop()


def options(url: str) -> dict[str, Any]:
    return {"key": "key", "secret": "secret", "endpoint_url": url}


@pytest.fixture
def bucket(app: Flask, endpoint: str) -> Iterator[Storage]:
    """Artifacts are kept in the bucket."""
    usual = app.extensions["carillon_settings"]
    app.extensions["carillon_settings"] = replace(
        usual, artifacts_url="s3://bucket/some/prefix", artifacts_options=options(endpoint)
    )
    with app.app_context():
        yield storage()
    app.extensions["carillon_settings"] = usual


def objects(endpoint: str, job: RunningJob) -> list[str]:
    found = s3fs.S3FileSystem(**options(endpoint), skip_instance_cache=True).find("bucket/some/prefix")
    return [path for path in found if str(job.id) in path]


def uploads(endpoint: str) -> list[Any]:
    return list(s3fs.S3FileSystem(**options(endpoint)).list_multipart_uploads("bucket"))


@pytest.mark.parametrize("size", [0, 1000, LARGE])
def test_an_artifact_is_left_and_downloaded(
    client: FlaskClient, bucket: Storage, endpoint: str, job: RunningJob, size: int
) -> None:
    content = os.urandom(size)
    artifact = job.leave("report", content)
    path = f"bucket/some/prefix/{job.owner.organization_id}/{job.id}/{artifact.id}"
    assert objects(endpoint, job) == [path]
    address = f"{job.url}/{artifact.id}"
    answer = client.get(address, headers=job.owner.headers)
    assert (answer.status_code, answer.data == content) == (200, True)
    if size:
        answer = client.get(address, headers={**job.owner.headers, "Range": "bytes=-10"})
        assert (answer.status_code, answer.data) == (206, content[-10:])
    assert client.delete(address, headers=job.owner.headers).status_code == 204
    assert objects(endpoint, job) == []
    assert client.get(address, headers=job.owner.headers).json["code"] == "artifact_not_found"


@pytest.mark.parametrize("size", [1000, LARGE])
def test_what_goes_wrong_leaves_no_object_and_no_upload(
    app: Flask, bucket: Storage, endpoint: str, job: RunningJob, size: int
) -> None:
    app.extensions["carillon_settings"] = replace(app.extensions["carillon_settings"], max_artifact_bytes=size)
    with pytest.raises(ArtifactTooLarge):
        job.leave("report", bytes(size + 1))
    assert (objects(endpoint, job), uploads(endpoint)) == ([], [])


def test_an_object_that_is_gone_is_gone(client: FlaskClient, bucket: Storage, endpoint: str, job: RunningJob) -> None:
    artifact = job.leave("report", b"content")
    s3fs.S3FileSystem(**options(endpoint)).rm_file(objects(endpoint, job)[0])
    answer = client.get(f"{job.url}/{artifact.id}", headers=job.owner.headers)
    assert (answer.status_code, answer.json["code"]) == (410, "artifact_gone")


def test_files_are_removed_at_once_whether_they_are_there_or_not(bucket: Storage) -> None:
    keys = [FileKey(new_id(), new_id(), new_id()) for _ in range(3)]
    with bucket.writing(keys[0]) as file:
        file.write(b"1")
    assert bucket.remove(keys) == keys
    with pytest.raises(FileNotFoundError):
        bucket.open(keys[0])


def test_a_storage_that_is_away_answers_503_and_keeps_its_files_for_later(
    app: Flask, client: FlaskClient, bucket: Storage, job: RunningJob
) -> None:
    artifact = job.leave("report", b"content")
    away = {**options("http://127.0.0.1:9"), "config_kwargs": {"connect_timeout": 0.2, "retries": {"max_attempts": 0}}}
    app.extensions["carillon_settings"] = replace(app.extensions["carillon_settings"], artifacts_options=away)
    answer = client.get(f"{job.url}/{artifact.id}", headers=job.owner.headers)
    assert (answer.status_code, answer.json["code"]) == (503, "service_unavailable")
    assert storage().remove([FileKey(artifact.organization_id, job.id, artifact.id)]) == []


IN_EVENTLET = """
import warnings
warnings.simplefilter("ignore")
import eventlet
eventlet.monkey_patch()
import json, sys, time
from uuid import UUID
from service import create_app
from service.artifacts.storage import Contents, FileKey, storage
from service.settings import Settings

key = FileKey(*[UUID(each) for each in sys.argv[1:4]])
size = int(sys.argv[4])
longest = 0.0

def watch():
    global longest
    while True:
        begins = time.monotonic()
        eventlet.sleep(0.01)
        longest = max(longest, time.monotonic() - begins)

def download(_):
    contents = Contents(files.open(key), 0, size)
    count = sum(len(piece) for piece in contents)
    contents.close()
    return count

with create_app(Settings.from_env(), serves=False).app_context():
    files = storage()
    download(0)
    eventlet.spawn(watch)
    begins = time.monotonic()
    counts = list(eventlet.GreenPool().imap(download, range(4)))
    took = time.monotonic() - begins
    removed = len(files.remove([key]))
    try:
        files.open(key)
        is_gone = False
    except FileNotFoundError:
        is_gone = True
print(json.dumps({"counts": counts, "took": took, "longest": longest, "removed": removed, "is_gone": is_gone}))
"""


def test_eventlets_process_reads_beside_its_other_work(bucket: Storage, endpoint: str) -> None:
    key = FileKey(new_id(), new_id(), new_id())
    with bucket.writing(key) as file:
        file.write(bytes(LARGE))
    environment = {
        **os.environ,
        "ARTIFACTS_URL": "s3://bucket/some/prefix",
        "ARTIFACTS_OPTIONS": json.dumps(options(endpoint)),
    }
    command = [sys.executable, "-c", IN_EVENTLET, *[str(part) for part in key], str(LARGE)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, timeout=90)
    told = json.loads(done.stdout)
    assert (told["counts"], told["removed"], told["is_gone"]) == ([LARGE] * 4, 1, True)
    # Eighty pieces each: were each noticed by the next look after a second only, it would take minutes.
    assert told["took"] < 20
    assert told["longest"] < 1
