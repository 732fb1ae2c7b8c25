"""The tree of commands: help, misspelling, exit codes, and what may not be imported for them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from cli_harness import environment, holdfast

from holdfast.cli.client import JsonObject
from holdfast.cli.problem import CommandError, ExitCode, describe, exit_code_of
from holdfast.cli.root import ALIASES, COMMANDS
from holdfast.domain.errors import (
    ConflictError,
    CorruptState,
    HoldfastError,
    NotFoundError,
    StorageError,
    TransportError,
    UsageError,
)

FORBIDDEN = (
    "agents",
    "holdfast.admin",
    "holdfast.ai",
    "holdfast.demo",
    "holdfast.engine",
    "holdfast.ingress",
    "holdfast.server",
    "holdfast.storage",
    "holdfast.testing",
    "httpx",
    "openai",
    "pydantic",
    "rich",
    "starlette",
    "uvicorn",
    "uvloop",
    "websockets",
)


@pytest.mark.parametrize("arguments", [["--help"], ["version"], ["inv", "ls", "--help"]])
def test_help_and_version_import_little(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from holdfast.cli.root import run\n"
        "try:\n    run(sys.argv[1:])\n"
        "except SystemExit:\n    print('\\n' + ' '.join(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    loaded = done.stderr.split()
    bad = [n for n in loaded for f in FORBIDDEN if n == f or n.startswith(f + ".")]
    assert bad == []
    assert "holdfast.cli.root" in loaded


def test_help_lists_every_command() -> None:
    done = holdfast("--help")
    assert done.returncode == 0
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("name", [*COMMANDS, *ALIASES])
def test_every_command_has_help_with_an_example(name: str) -> None:
    done = holdfast(name, "--help")
    assert done.returncode == 0, done.stderr
    is_group = "Commands:" in done.stdout
    assert is_group or "  holdfast " in done.stdout


def test_version_goes_to_standard_output() -> None:
    done = holdfast("version")
    assert (done.returncode, done.stderr) == (0, "")
    shown: JsonObject = json.loads(holdfast("version", "--json").stdout)
    assert shown == {"schema_version": 1, "version": done.stdout.strip()}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["inovcations"], "invocations"),
        (["inv", "lst"], "No such command 'lst'"),
        (["version", "--jsn"], "--jsn"),
        (["worker", "agent:app"], "--connect"),
        (["server", "--durability", "some"], "--durability"),
        (["inv", "ls", "--limit", "0"], "--limit"),
    ],
)
def test_wrong_usage_exits_2_with_a_hint(arguments: list[str], says: str) -> None:
    done = holdfast(*arguments)
    assert done.returncode == ExitCode.USAGE
    assert done.stdout == ""
    assert "error[HF1200]" in done.stderr
    assert "hint:" in done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (NotFoundError("x"), 3),
        (ConflictError("x"), 4),
        (TransportError("x"), 5),
        (StorageError("x"), 2),
        (CorruptState("x"), 3),
        (HoldfastError("x"), 1),
        (CommandError("x", code="HF1", exit_code=ExitCode.TIMEOUT), 6),
    ],
)
def test_exit_codes(error: HoldfastError, code: int) -> None:
    assert exit_code_of(error) == code


def test_the_documented_numbers() -> None:
    assert [code.value for code in ExitCode] == [0, 1, 2, 3, 4, 5, 6, 7, 130]


def test_a_cause_is_told_unless_the_message_has_it() -> None:
    error = UsageError("cannot open", hint="mend it")
    error.__cause__ = OSError("disk is full")
    assert "  cause: disk is full\n  hint:  mend it" in describe(error)
    error = UsageError("cannot open: disk is full")
    error.__cause__ = OSError("disk is full")
    assert "cause" not in describe(error)


@pytest.mark.parametrize("name", ["HOLDFAST_STROE", "HOLDFAST_INGRES"])
def test_a_misspelt_setting_is_refused(name: str) -> None:
    done = holdfast("server", env={name: "x"})
    assert done.returncode == ExitCode.USAGE
    assert "error[HF1220]" in done.stderr
    assert "Did you mean HOLDFAST_" in done.stderr
