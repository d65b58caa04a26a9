"""The AsyncAPI document against AsyncAPI's own schema of such documents, from the npm package of its publisher."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import requests
from jsonschema import Draft7Validator

from tests.acceptance.platform import Platform

pytestmark = pytest.mark.xdist_group("platform")


def test_it_is_what_asyncapi_says_a_document_is(platform: Platform, node_folder: Path) -> None:
    schema = json.loads((node_folder / "node_modules/@asyncapi/specs/schemas/3.0.0.json").read_text())
    document = requests.get(f"{platform.url}/api/asyncapi.json", timeout=10).json()
    assert document["asyncapi"] == "3.0.0"
    assert [error.message for error in Draft7Validator(schema).iter_errors(document)] == []
