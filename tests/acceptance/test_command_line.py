"""The commands over HTTP against a whole platform: what people see, and what scripts rely on."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from devstack.ports import free_port
from tests.acceptance.platform import PASSWORD, Person, Platform, printed_password
from tests.acceptance.terminals import Shell

pytestmark = pytest.mark.xdist_group("platform")

QUICK = '{"steps": 3}'
# Some three seconds, with progress all the way.
SLOW = '{"steps": 30, "sleepMs": 100}'
FAILS = '{"steps": 3, "failAt": 2, "permanent": true}'
NO_JOB = "01900000-0000-7000-8000-000000000000"


@pytest.fixture
def person(platform: Platform) -> Person:
    return platform.newcomer()


@pytest.fixture
def shell(person: Person, tmp_path: Path) -> Iterator[Shell]:
    """The shell of somebody who has logged in."""
    shell = Shell(tmp_path)
    said = shell.run("login", "--url", person.url, "--username", person.username, "--password-stdin", stdin=PASSWORD)
    assert said.stdout == f"Logged in at {person.url} as {person.username}.\n", said
    return shell


def refused(said: subprocess.CompletedProcess[str], words: str) -> None:
    assert (said.returncode, said.stdout) == (1, ""), said
    assert words in said.stderr
    assert said.stderr.startswith("Error: ")
    assert len(said.stderr.splitlines()) == 1, said.stderr


def test_the_printed_password_typed_in_a_terminal_opens_a_session(platform: Platform, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    password = printed_password(platform.announcement)
    with shell.terminal("login", "--url", f"{platform.url}/") as terminal:
        terminal.wait_for("User name:")
        terminal.type("admin\n")
        terminal.wait_for("Password:")
        terminal.type(f"{password}\n")
        assert terminal.exit_code() == 0, terminal.text
        assert f"Logged in at {platform.url} as admin." in terminal.text
        assert password not in terminal.text
    assert stat.S_IMODE(shell.sessions.stat().st_mode) == 0o600
    assert password not in shell.sessions.read_text()
    assert shell.run("jobs").returncode == 0
    refresh_token = json.loads(shell.sessions.read_text())["sessions"][platform.url]["refresh"]
    assert shell.run("logout").stdout == f"Logged out at {platform.url}.\n"
    assert refresh_token not in shell.sessions.read_text()
    refused(shell.run("jobs"), "You are not logged in: run carillon login.")
    refused(shell.run("logout"), "You are not logged in.")


def test_a_wrong_password_keeps_nothing(person: Person, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    said = shell.run("login", "--url", person.url, "--username", person.username, "--password-stdin", stdin="wrong one")
    refused(said, "User name or password is wrong.")
    assert not shell.sessions.exists()


def test_a_submission_is_watched_line_by_line_where_there_is_no_terminal(shell: Shell) -> None:
    said = shell.run("submit", "demo-steps", "--payload", SLOW, "--name", "Mine", "--watch")
    assert (said.returncode, said.stderr) == (0, ""), said
    lines = said.stdout.splitlines()
    assert len({line.split()[0] for line in lines}) == 1
    assert lines[-1].split(maxsplit=2)[1:] == ["completed", '{"steps": 30, "attempt": 1}']
    assert any(" % Step " in line for line in lines[:-1]), lines
    assert len(lines) < 15
    assert "\x1b" not in said.stdout


def test_a_submission_is_watched_with_a_bar_in_a_terminal(shell: Shell) -> None:
    with shell.terminal("submit", "demo-steps", "--payload", SLOW, "--name", "Mine", "--watch") as terminal:
        assert terminal.exit_code() == 0, terminal.text
        assert "\x1b[" in terminal.raw
        shares = {share for share in range(101) if f" {share}%" in terminal.text}
        assert len(shares) > 5, shares
        last = terminal.text.rstrip().splitlines()[-1]
        assert last.startswith("completed Mine")
        assert "100%" in last
        assert '{"steps": 30, "attempt": 1}' in last


def test_ctrl_c_leaves_the_job_running_and_says_how_to_go_on(shell: Shell, person: Person) -> None:
    job_id = person.submit(payload=json.loads(SLOW))
    with shell.terminal("watch", job_id) as terminal:
        terminal.wait_for("active")
        terminal.type("\x03")
        assert terminal.exit_code() == 130, terminal.text
        assert f"The job goes on. To watch again: carillon watch {job_id}" in terminal.text
        assert "Traceback" not in terminal.text
    assert person.job(job_id)["status"] == "active"
    assert shell.run("watch", job_id).returncode == 0


def test_sigint_without_a_terminal_does_the_same(shell: Shell, person: Person) -> None:
    job_id = person.submit(payload=json.loads(SLOW))
    with shell.start("watch", job_id) as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert f"carillon watch {job_id}" in errors
    person.ask("DELETE", f"/api/jobs/{job_id}")


def test_failed_is_1_and_cancelled_is_3(shell: Shell, person: Person) -> None:
    said = shell.run("submit", "demo-steps", "--payload", FAILS, "--watch")
    assert said.returncode == 1
    assert "failed  Failed for good at step 2 (demo_failure)" in said.stdout
    job_id = person.submit("demo-wait", {"seconds": 60})
    with shell.start("watch", job_id) as process:
        assert process.stdout
        process.stdout.readline()
        assert shell.run("cancel", job_id, "--reason", "no longer wanted").returncode == 0
        rest, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (3, "")
    assert f"{job_id}  cancelled  no longer wanted" in rest


def test_several_jobs_are_watched_at_once_and_the_worst_counts(shell: Shell, person: Person) -> None:
    ids = [
        person.submit(payload={"steps": 3}),
        person.submit(payload=json.loads(FAILS)),
        person.submit(payload=json.loads(SLOW)),
    ]
    said = shell.run("watch", *ids)
    assert said.returncode == 1
    ends = {line.split()[0]: line.split()[1] for line in said.stdout.splitlines()}
    assert ends == dict(zip(ids, ["completed", "failed", "completed"], strict=True))
    with shell.terminal("watch", *ids) as terminal:
        assert terminal.exit_code() == 1
        assert terminal.text.count("Demo steps") >= 3
    said = shell.run("watch", ids[0], NO_JOB)
    assert said.returncode == 1
    assert said.stderr == f"Error: {NO_JOB}: There is no such job.\n"
    assert "completed" in said.stdout


def test_a_submission_prints_what_a_script_can_use(shell: Shell, person: Person, tmp_path: Path) -> None:
    (tmp_path / "payload.json").write_text(QUICK)
    first = shell.run("submit", "demo-steps", "--payload", "@payload.json", "--idempotency-key", "once")
    again = shell.run("submit", "demo-steps", "--payload", "-", "--idempotency-key", "once", stdin=QUICK)
    assert first.stdout == again.stdout
    assert person.job(first.stdout.strip())["type"] == "demo-steps"
    said = shell.run("submit", "demo-steps", "--payload", QUICK, "--watch", "--json")
    assert json.loads(said.stdout)["result"]["steps"] == 3
    options = ("--option", "priority=90", "--option", "tags=7", "--option", "tags=night", "--option", "delay=60")
    job = json.loads(shell.run("submit", "demo-steps", "--payload", QUICK, *options, "--json").stdout)
    assert (job["priority"], job["tags"], job["status"]) == (90, ["7", "night"], "scheduled")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("submit", "demo-steps", "--payload", "{"), "not valid JSON"),
        (("submit", "demo-steps", "--payload", "[1]"), "not a JSON object"),
        (("submit", "demo-steps", "--payload", "@nowhere.json"), "nowhere.json cannot be read: No such file"),
        (("submit", "demo-steps", "--payload", '{"steps": 0}'), "payload.steps: "),
        (("submit", "demo-steps", "--option", "priority"), "not of the form KEY=VALUE"),
        (("submit", "no-such-type"), "no job type of this name"),
        (("job", NO_JOB), "There is no such job."),
        (("jobs", "--status", "sleeping"), "status: "),
    ],
)
def test_what_is_wrong_is_one_sentence(shell: Shell, arguments: tuple[str, ...], words: str) -> None:
    refused(shell.run(*arguments), words)


def test_jobs_are_listed_shown_cancelled_and_retried(shell: Shell, person: Person) -> None:
    waiting = [person.submit(payload={"steps": 1}, delay=600, tags=["night"]) for _ in range(2)]
    done = person.submit(payload={"steps": 1})
    person.await_status(done, "completed")
    rows = shell.run("jobs", "--tag", "night").stdout.splitlines()
    assert [row.split()[0] for row in rows] == ["ID", *reversed(waiting)]
    assert [job["id"] for job in json.loads(shell.run("jobs", "--limit", "1", "--json").stdout)] == [done]
    sheet = shell.run("job", done).stdout
    assert "status    completed" in sheet
    assert json.loads(shell.run("job", done, "--json").stdout)["result"] == {"steps": 1, "attempt": 1}
    said = shell.run("cancel", *waiting, done, "--reason", "enough")
    assert said.returncode == 1
    assert said.stdout.splitlines() == [f"{job_id} is cancelled" for job_id in waiting]
    assert said.stderr == f"Error: {done}: The job has ended.\n"
    assert person.job(waiting[0])["cancelReason"] == "enough"
    assert shell.run("retry", waiting[0]).stdout == f"{waiting[0]} is queued\n"
    person.await_status(waiting[0], "completed")
    refused(shell.run("retry", done), "Only a failed or cancelled job can be retried.")


def test_a_log_is_followed_to_its_end(shell: Shell, person: Person) -> None:
    job_id = person.submit("demo-wait", {"seconds": 1.5})
    began = time.monotonic()
    said = shell.run("logs", job_id, "--follow")
    assert said.returncode == 0, said
    assert [line.split(maxsplit=2)[1:] for line in said.stdout.splitlines()] == [["info", "Cleaned up"]]
    assert time.monotonic() - began > 1
    assert shell.run("logs", job_id).stdout == said.stdout
    watched = shell.run("watch", job_id, "--logs").stdout.splitlines()
    assert watched[0].endswith("Cleaned up")
    assert watched[1].split()[1] == "completed"


def test_what_other_people_wrote_does_not_command_the_terminal(shell: Shell, person: Person) -> None:
    body = {"type": "demo-steps", "name": "bad\x1b]0;title\x07\x9b31mname", "payload": {"steps": 1}}
    job_id = person.ask("POST", "/api/jobs", body, 202)["id"]
    for arguments in (("jobs",), ("job", job_id), ("watch", job_id)):
        with shell.terminal(*arguments) as terminal:
            assert terminal.exit_code() == 0
            assert "\x1b]0;" not in terminal.raw
            assert "\x9b" not in terminal.raw


def test_tokens_that_have_run_out_are_renewed_once_for_all_commands(shell: Shell, person: Person) -> None:
    kept = json.loads(shell.sessions.read_text())
    tokens = kept["sessions"][person.url]
    tokens["access"] += "x"
    shell.sessions.write_text(json.dumps(kept))
    with ThreadPoolExecutor(4) as pool:
        codes = [said.returncode for said in pool.map(lambda _: shell.run("jobs"), range(4))]
    assert codes == [0, 0, 0, 0]
    renewed = json.loads(shell.sessions.read_text())["sessions"][person.url]
    assert renewed["refresh"] != tokens["refresh"]
    assert stat.S_IMODE(shell.sessions.stat().st_mode) == 0o600


def test_the_environment_names_server_and_token(person: Person, tmp_path: Path) -> None:
    shell = Shell(tmp_path, CARILLON_URL=f"{person.url}/")
    refused(shell.run("jobs"), f"You are not logged in: run carillon login --url {person.url}.")
    job_id = person.submit(payload={"steps": 1})
    assert job_id in shell.run("jobs", CARILLON_TOKEN=person.token).stdout
    refused(shell.run("jobs", CARILLON_TOKEN="forged"), "The token is not valid: run carillon login.")
    assert not shell.sessions.exists()


def test_a_server_that_is_away_is_one_sentence(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    shell = Shell(tmp_path, CARILLON_URL=url, CARILLON_TOKEN="x")
    for arguments in (("jobs",), ("watch", NO_JOB), ("logs", NO_JOB, "--follow")):
        refused(shell.run(*arguments), f"The server at {url} cannot be reached.")
    refused(shell.run("jobs", CARILLON_URL="127.0.0.1:5000"), "not the address of a server")
