"""`python -m devstack`: the local stack from a shell."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dotenv import dotenv_values

from devstack.errors import StackError
from devstack.settings import PROJECT_FOLDER, StackSettings
from devstack.stack import Stack, environment_file
from devstack.terminal import Terminal


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = StackSettings.from_env()
        if options.command == "up":
            return Terminal(settings).run()
        return _execute(settings, options.program)
    except StackError as error:
        print(error, file=sys.stderr)
        return 1


def _execute(settings: StackSettings, program: Sequence[str]) -> int:
    """Run a program with the settings of the stack that runs, else with servers started for its sake."""
    stack = Stack(settings)
    running = environment_file(settings.var_folder)
    try:
        stack.take_folder()
    except StackError:
        if not running.exists():
            raise
        found = {name: value for name, value in dotenv_values(running).items() if value}
        return _call(program, dict(settings.environment) | found)
    try:
        stack.start_servers()
        return _call(program, stack.environment)
    finally:
        stack.stop()


def _call(program: Sequence[str], environment: dict[str, str]) -> int:
    # The console scripts of this interpreter's environment, also when it has not been activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    try:
        return subprocess.run(program, env=environment | {"PATH": path}, cwd=PROJECT_FOLDER, check=False).returncode
    except FileNotFoundError:
        raise StackError(f"There is no program {program[0]}.") from None
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="devstack", description="The local stack of Carillon.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start everything and show the logs until Ctrl-C")
    execute = commands.add_parser("exec", help="run a program with the settings of the stack")
    execute.add_argument("program", nargs=argparse.REMAINDER, metavar="PROGRAM [ARGUMENT …]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
