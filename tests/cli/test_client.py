"""What the client sends, and what it refuses to send or to show."""

from __future__ import annotations

import logging

import click
import pytest
from cli_harness import holdfast

from holdfast.cli.log import set_up_log
from holdfast.cli.option import token


@pytest.mark.parametrize("token", ["s3cret\nx", "s3crët", "s3cret\x7f"])
@pytest.mark.parametrize(
    "command", [["inv", "ls"], ["worker", "agent.py:app", "--connect", "http://127.0.0.1:1"]]
)
def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(
    command: list[str], token: str
) -> None:
    done = holdfast(*command, env={"HOLDFAST_TOKEN": token})
    assert done.returncode == 2
    assert "error[HF1207]: The token cannot be sent" in done.stderr
    assert "s3cr" not in done.stderr


def test_a_token_from_a_file_ends_with_a_line_break() -> None:
    found: list[str | None] = []

    @click.command()
    @token
    def command(token: str | None) -> None:
        found.append(token)

    command.main(["--token", "s3cret\r\n"], standalone_mode=False)
    command.main([], standalone_mode=False)
    assert found == ["s3cret", None]


def test_a_header_that_cannot_be_sent() -> None:
    done = holdfast("call", "Greeter/greet", '"Ada"', "--idempotency-key", "café")
    assert done.returncode == 2
    assert "The idempotency-key cannot be sent" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_password_in_an_address_is_refused_and_not_shown() -> None:
    done = holdfast("inv", "ls", "--admin", "http://ada:s3cret@127.0.0.1:1")
    assert done.returncode == 2
    assert "error[HF1206]: --admin names a user" in done.stderr
    assert "s3cret" not in done.stderr


def test_an_argument_that_is_nested_too_deeply() -> None:
    done = holdfast("call", "Greeter/greet", "-", stdin=b"[" * 200_000 + b"]" * 200_000)
    assert done.returncode == 2
    assert "error[HF1221]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_line_of_the_log_cannot_be_forged(capfd: pytest.CaptureFixture[str]) -> None:
    root, ours = logging.getLogger(), logging.getLogger("holdfast")
    handlers, level, our_level = list(root.handlers), root.level, ours.level
    try:
        set_up_log("info", "text")
        extra = {"http_path": "/a\n12:00:00 ERROR all is lost\x1b[2J"}
        logging.getLogger("holdfast.x").warning("refused: %s", "a\nb", extra=extra)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        ours.setLevel(our_level)
    [line] = capfd.readouterr().err.splitlines()
    assert "refused: a\\x0ab" in line
    assert "http_path=/a\\x0a12:00:00 ERROR all is lost\\x1b[2J" in line
