"""Processes end as told, with all that they started, and also when whoever started them is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devstack.errors import StackError
from devstack.guard import is_alive
from devstack.processes import Process, Program
from devstack.settings import PROJECT_FOLDER, StackSettings
from devstack.stack import Stack
from tests.acceptance.waiting import until

# A parent with one child of its own, as a worker has; both write their numbers, each in one go, and then wait.
FAMILY = """
import os, signal, time
{before}
child = os.fork()
{after}
os.write(1, b"%d\\n" % os.getpid())
time.sleep(60)
"""


def family(folder: Path, before: str = "", after: str = "") -> tuple[Process, list[int]]:
    program = Program("family", (sys.executable, "-c", FAMILY.format(before=before, after=after)))
    process = Process(program, log_folder=folder)
    process.start()
    until(lambda: len(process.log_tail().split()) == 2, lambda: f"both numbers: {process.log_tail()!r}")
    return process, [int(pid) for pid in process.log_tail().split()]


def test_stop_asks_and_takes_the_children_along(tmp_path: Path) -> None:
    process, pids = family(tmp_path)
    assert process.pid in pids
    process.stop()
    assert process.returncode == -signal.SIGTERM
    assert not any(is_alive(pid) for pid in pids)


def test_stop_kills_who_does_not_listen(tmp_path: Path) -> None:
    process, pids = family(tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    process.stop(patience=0.2)
    assert process.returncode == -signal.SIGKILL
    assert not any(is_alive(pid) for pid in pids)


def test_a_frozen_process_can_be_stopped(tmp_path: Path) -> None:
    process, pids = family(tmp_path)
    process.send_to_group(signal.SIGSTOP)
    process.stop()
    assert process.returncode == -signal.SIGTERM
    assert not any(is_alive(pid) for pid in pids)


def test_kill_takes_children_of_other_groups_along(tmp_path: Path) -> None:
    process, pids = family(tmp_path, after="child or os.setsid()")
    process.kill()
    process.kill()
    assert not process.running
    assert not any(is_alive(pid) for pid in pids)


def test_restart_gives_a_new_process_and_keeps_the_log(tmp_path: Path) -> None:
    process = Process(Program("echo", ("sh", "-c", "echo here; sleep 60")), log_folder=tmp_path)
    process.start()
    first = process.pid
    until(lambda: process.log_tail() == "here", "its word")
    process.restart()
    assert process.pid != first
    until(lambda: process.log_tail() == "here\nhere", "its word after the restart")
    with pytest.raises(StackError, match="runs already"):
        process.start()
    process.stop()


def test_the_log_of_an_earlier_run_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "true.log").write_text("earlier")
    process = Process(Program("true", ("true",)), log_folder=tmp_path)
    process.start()
    assert process.wait(5) == 0
    assert process.log_tail() == ""
    assert (tmp_path / "true.log.1").read_text() == "earlier"
    process.stop()


KILLED_PARENT = """
import sys, time
from pathlib import Path
from devstack.guard import is_alive
from devstack.processes import Process, Program
from devstack.redis_server import RedisServer
folder = Path(sys.argv[1])
server = RedisServer(folder / "redis", persistent=False)
server.start()
process = Process(Program("family", (sys.executable, "-c", sys.argv[2])), log_folder=folder)
process.start()
while len(process.log_tail().split()) < 2:
    time.sleep(0.02)
print(server.pid, process.log_tail().replace(chr(10), " "), flush=True)
time.sleep(60)
"""


def test_nothing_survives_a_parent_that_is_killed(tmp_path: Path) -> None:
    before = "signal.signal(signal.SIGTERM, lambda *_: os._exit(0) if child else None)"
    command = [sys.executable, "-c", KILLED_PARENT, str(tmp_path), FAMILY.format(before=before, after="")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT_FOLDER) as parent:
        assert parent.stdout
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(pids) == 3
    until(lambda: not any(is_alive(pid) for pid in pids), "the end of all")


def test_a_stack_runs_commands_in_its_environment(tmp_path: Path) -> None:
    settings = StackSettings.for_tests(tmp_path, database_url="postgresql://given", redis_url="redis://given")
    stack = Stack(settings)
    stack.start_servers()
    try:
        assert stack.run(["sh", "-c", "echo $DATABASE_URL $CARILLON_ENV"]) == "postgresql://given test\n"
        with pytest.raises(StackError, match=r"(?s)`sh -c .*` failed \(exit code 3\):\nwhy"):
            stack.run(["sh", "-c", "echo why >&2; exit 3"])
    finally:
        stack.stop()
    assert not (tmp_path / "stack.env").exists()


def test_a_process_that_ends_while_starting_is_named_with_its_last_words(tmp_path: Path) -> None:
    settings = StackSettings.for_tests(tmp_path, database_url="postgresql://given", redis_url="redis://given")
    stack = Stack(settings)
    stack.start_servers()
    try:
        stack.add(Program("web", ("sh", "-c", "echo no such module; exit 1")))
        with pytest.raises(StackError, match=r"(?s)web ended while starting \(exit code 1\).*no such module"):
            stack.wait_until_healthy(timeout=5)
    finally:
        stack.stop()


LITTER = "import tempfile, time; print(tempfile.mkdtemp(), flush=True); time.sleep(60)"


def test_what_killed_processes_leave_in_their_temporary_folder_goes_with_the_run(tmp_path: Path) -> None:
    # What a run has left that was killed itself.
    earlier = tmp_path / "tmp" / "earlier"
    earlier.mkdir(parents=True)
    stack = Stack(StackSettings.for_tests(tmp_path, database_url="postgresql://given", redis_url="redis://given"))
    stack.start_servers()
    try:
        assert not earlier.exists()
        process = stack.add(Program("litter", (sys.executable, "-c", LITTER)))
        litter = Path(until(process.log_tail, "the name of its folder"))
        process.kill()
        assert litter.is_dir()
        assert litter.parent == earlier.parent
    finally:
        stack.stop()
    assert not earlier.parent.exists()
