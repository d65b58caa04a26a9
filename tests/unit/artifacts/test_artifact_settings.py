"""Where artifacts are kept, and for how long anything is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from service.settings import Settings, SettingsError


def test_files_lie_in_the_folder_of_data_unless_something_else_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    assert Settings.from_env({"CARILLON_VAR_DIR": str(folder)}).artifacts_url == f"file://{folder}/artifacts"
    assert Settings.from_env({"ARTIFACTS_URL": str(folder)}).artifacts_url == f"file://{folder}"
    assert Settings.from_env({"ARTIFACTS_URL": "relative"}).artifacts_url == f"file://{Path.cwd()}/relative"


def test_limits_and_lives_are_what_the_documents_say() -> None:
    settings = Settings.from_env({})
    assert (settings.max_artifact_bytes, settings.max_artifacts_per_job) == (100 * 1024 * 1024, 100)
    assert (
        settings.artifact_retention_days,
        settings.job_retention_days,
        settings.notification_retention_days,
        settings.webhook_retention_days,
        settings.audit_retention_days,
    ) == (30, 30, 90, 30, 365)


@pytest.mark.parametrize("value", ["ftp://host/folder", "http://host", "memory://"])
def test_a_storage_that_is_not_known_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="ARTIFACTS_URL"):
        Settings.from_env({"ARTIFACTS_URL": value})


def test_s3_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    # As Python knows a package that is not there.
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(SettingsError, match=r"carillon\[s3\]"):
        Settings.from_env({"ARTIFACTS_URL": "s3://bucket/prefix"})


@pytest.mark.parametrize("value", ["{", "[]", '"text"', "secret-words"])
def test_options_that_are_no_object_are_refused_without_being_told(value: str) -> None:
    with pytest.raises(SettingsError, match="ARTIFACTS_OPTIONS must be a JSON object") as raised:
        Settings.from_env({"ARTIFACTS_OPTIONS": value})
    assert "secret" not in str(raised.value)


def test_nothing_is_kept_for_no_time_at_all() -> None:
    for name in ("JOB_RETENTION_DAYS", "ARTIFACT_RETENTION_DAYS", "MAX_ARTIFACT_BYTES"):
        with pytest.raises(SettingsError, match=name):
            Settings.from_env({name: "0"})
