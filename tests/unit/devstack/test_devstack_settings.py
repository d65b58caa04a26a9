"""Where the stack's settings come from, and the command lines that follow from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from devstack.errors import StackError
from devstack.programs import all_programs
from devstack.settings import PROJECT_FOLDER, StackSettings


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("PORT=6000\nFLOWER_PORT=6001\nSMTP_URL=smtp://mail\n")
    settings = StackSettings.from_env({"PORT": "7000"}, dotenv)
    assert (settings.port, settings.flower_port) == (7000, 6001)
    assert settings.environment["SMTP_URL"] == "smtp://mail"


def test_defaults(tmp_path: Path) -> None:
    settings = StackSettings.from_env({}, tmp_path / "none")
    assert (settings.port, settings.flower_port) == (5000, 5555)
    assert settings.var_folder == PROJECT_FOLDER / "var"
    assert 2 <= settings.concurrency <= 5
    assert settings.database_url is settings.redis_url is None
    assert settings.url == "http://127.0.0.1:5000"


@pytest.mark.parametrize(
    ("environment", "allowed"),
    [
        ({}, True),
        ({"CARILLON_ENV": "development", "HOST": "localhost"}, True),
        ({"CARILLON_ENV": "production"}, False),
        ({"HOST": "0.0.0.0"}, False),
        ({"WEBHOOK_ALLOW_NETWORKS": ""}, False),
    ],
)
def test_webhooks_reach_this_machine_while_one_develops_on_it(
    environment: dict[str, str], allowed: bool, tmp_path: Path
) -> None:
    settings = StackSettings.from_env(environment, tmp_path / "none")
    assert settings.defaults == ({"WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8,::1/128"} if allowed else {})


@pytest.mark.parametrize("text", ["five", "-1", "0", "5000.0"])
def test_nonsense_names_the_variable(text: str, tmp_path: Path) -> None:
    with pytest.raises(StackError, match=f"PORT={text} is not a number"):
        StackSettings.from_env({"PORT": text}, tmp_path / "none")


def test_tests_take_no_setting_from_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_URL", "smtp://real")
    settings = StackSettings.for_tests(tmp_path, LOG_LEVEL="debug")
    assert "SMTP_URL" not in settings.environment
    assert settings.environment["LOG_LEVEL"] == "debug"
    assert not settings.durable


def test_every_process_follows_the_settings(tmp_path: Path) -> None:
    settings = StackSettings(var_folder=tmp_path, port=6000, flower_port=6001, concurrency=3)
    programs = all_programs(settings)
    assert list(programs) == ["web", "worker", "delivery", "beat", "flower"]
    assert programs["web"].environment["PORT"] == "6000"
    assert "--port=6001" in programs["flower"].command
    assert programs["worker"].command[programs["worker"].command.index("-c") + 1] == "3"
    assert [name for name, program in programs.items() if not program.essential] == ["flower"]
