"""Options that several commands share."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from holdfast.cli.header import check_header
from holdfast.cli.problem import usage_error

C = TypeVar("C", bound=Callable[..., Any])

INGRESS_DEFAULT = "127.0.0.1:8080"
ADMIN_DEFAULT = "127.0.0.1:9070"
STORE_DEFAULT = "sqlite:./holdfast-data/holdfast.db"

SETTINGS = (
    "HOLDFAST_ADMIN",
    "HOLDFAST_APPROVAL_SECRET",
    "HOLDFAST_CLEANUP_INTERVAL",
    "HOLDFAST_CONNECT",
    "HOLDFAST_DEBUG",
    "HOLDFAST_DURABILITY",
    "HOLDFAST_IDENTITY_KEY",
    "HOLDFAST_IDENTITY_KEYS",
    "HOLDFAST_INACTIVITY_TIMEOUT",
    "HOLDFAST_INGRESS",
    "HOLDFAST_LAZY_STATE",
    "HOLDFAST_LOG_FORMAT",
    "HOLDFAST_LOG_LEVEL",
    "HOLDFAST_MODEL",
    "HOLDFAST_NAME",
    "HOLDFAST_NO_RELOAD",
    "HOLDFAST_PROTOCOL_V7",
    "HOLDFAST_PUBLIC_URL",
    "HOLDFAST_RETRY_FACTOR",
    "HOLDFAST_RETRY_INITIAL_INTERVAL",
    "HOLDFAST_RETRY_MAX_ATTEMPTS",
    "HOLDFAST_RETRY_MAX_INTERVAL",
    "HOLDFAST_RETRY_ON_MAX_ATTEMPTS",
    "HOLDFAST_SCRIPTED_MODEL_URL",
    "HOLDFAST_SERVE_HOST",
    "HOLDFAST_SERVE_PORT",
    "HOLDFAST_STORE",
    "HOLDFAST_TOKEN",
)
"""Environment variables that mean something to a command."""

as_json = click.option("--json", "is_json", is_flag=True, help="Print JSON.")

ingress_url = click.option(
    "--ingress",
    envvar="HOLDFAST_INGRESS",
    default=INGRESS_DEFAULT,
    show_default=True,
    metavar="URL",
    help="Where the server takes calls: a URL, or HOST:PORT.",
)
admin_url = click.option(
    "--admin",
    envvar="HOLDFAST_ADMIN",
    default=ADMIN_DEFAULT,
    show_default=True,
    metavar="URL",
    help="Where the server is administered: a URL, or HOST:PORT.",
)


def _checked_token(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    # Files that hold a token end with a line break, and so do variables that are made of them.
    token = value.strip()
    check_header("token", token, "Look at --token and HOLDFAST_TOKEN.")
    return token


token = click.option(
    "--token",
    envvar="HOLDFAST_TOKEN",
    callback=_checked_token,
    metavar="TOKEN",
    help="Sent to the server. Better set HOLDFAST_TOKEN: others can see arguments.",
)


def server_options(command: C) -> C:
    """Add the options of a server."""
    for option in reversed(_SERVER_OPTIONS):
        command = option(command)
    return command


def log_options(command: C) -> C:
    """Add the options of the log."""
    for option in reversed(_LOG_OPTIONS):
        command = option(command)
    return command


_SERVER_OPTIONS = (
    click.option(
        "--ingress",
        envvar="HOLDFAST_INGRESS",
        default=INGRESS_DEFAULT,
        show_default=True,
        metavar="HOST:PORT",
        help="Where clients call.",
    ),
    click.option(
        "--admin",
        envvar="HOLDFAST_ADMIN",
        default=ADMIN_DEFAULT,
        show_default=True,
        metavar="HOST:PORT",
        help="Where people look in and workers connect.",
    ),
    click.option(
        "--store",
        envvar="HOLDFAST_STORE",
        default=STORE_DEFAULT,
        show_default=True,
        metavar="URL",
        help="Where everything is kept: sqlite:PATH, or memory: for nothing after the end.",
    ),
    click.option(
        "--durability",
        envvar="HOLDFAST_DURABILITY",
        type=click.Choice(["full", "relaxed"]),
        default="full",
        show_default=True,
        help="full: on disk before anybody hears of it. relaxed: the loss of power may take the"
        " last moments.",
    ),
)
_LOG_OPTIONS = (
    click.option(
        "--log-level",
        envvar="HOLDFAST_LOG_LEVEL",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
        help="Least important lines that are logged.",
    ),
    click.option(
        "--log-format",
        envvar="HOLDFAST_LOG_FORMAT",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="How a line of the log looks.",
    ),
)


def check_environment() -> None:
    """Refuse a misspelt setting, which would otherwise do nothing without a word.

    Only names that are nearly right are refused: others may belong to somebody else's program.

    Raises:
        CommandError: HF1220, with the right name.
    """
    for name in sorted(os.environ):
        if not name.startswith("HOLDFAST_") or name in SETTINGS:
            continue
        near = difflib.get_close_matches(name, SETTINGS, n=1, cutoff=0.85)
        if near:
            raise usage_error(
                f"There is no setting {name}",
                code="HF1220",
                cause="the environment variable is set, and would have no effect",
                hint=f"Did you mean {near[0]}?",
            )
