"""`holdfast invocations tail`: what an invocation emits, while it emits it."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import cast

import click

from holdfast.cli.client import JsonObject
from holdfast.cli.option import as_json, ingress_url, token
from holdfast.cli.output import clean, note
from holdfast.cli.problem import CommandError, ExitCode
from holdfast.domain.errors import TerminalError
from holdfast.domain.stream_name import STREAM_DEFAULT
from holdfast.sdk.http_client import Client
from holdfast.sdk.stream_client import Chunk, InvocationStream, Replaced


@click.command()
@click.argument("invocation_id", metavar="ID")
@click.option(
    "--stream",
    "name",
    default=STREAM_DEFAULT,
    show_default=True,
    metavar="NAME",
    help="Which of its streams.",
)
@click.option("--after", "last_id", default="", metavar="EVENT", help="Go on behind this event.")
@ingress_url
@token
@as_json
def tail(
    invocation_id: str, name: str, last_id: str, ingress: str, token: str | None, is_json: bool
) -> None:
    """Print what an invocation emits, as it comes, until the invocation ends.

    Text is printed as it is, everything else as a line of JSON.

    \b
      holdfast inv tail inv_1...
    """
    url = ingress if "://" in ingress else f"http://{ingress}"
    asyncio.run(_tail(url, token, invocation_id, name, last_id, is_json))


async def _tail(
    url: str, token: str | None, invocation_id: str, name: str, last_id: str, is_json: bool
) -> None:
    async with Client(url, token=token) as client:
        stream = client.read_stream(invocation_id, stream=name, last_id=last_id)
        printer = _JsonPrinter() if is_json else _TextPrinter()
        try:
            async for event in stream:
                printer.show(event)
        finally:
            printer.finish()
        await _check(stream, invocation_id)


async def _check(stream: InvocationStream[object], invocation_id: str) -> None:
    """Fail as the invocation did."""
    try:
        await stream.result()
    except TerminalError as error:
        raise CommandError(
            f"The invocation failed with code {error.code}",
            code="HF1240",
            exit_code=ExitCode.RUN_FAILED,
            cause=clean(error.message),
            hint=f"holdfast invocations journal {clean(invocation_id)}",
        ) from error


class _TextPrinter:
    """Text without a break, other chunks in lines of their own."""

    def __init__(self) -> None:
        self._is_in_line = False

    def show(self, event: Chunk | Replaced) -> None:
        if isinstance(event, Replaced):
            self.finish()
            note(f"A step runs again: forget what it has said (lane {event.lane}).")
            return
        text = _text_of(event.value)
        if text is None:
            self.finish()
            click.echo(json.dumps(event.value, ensure_ascii=False))
        elif text:
            click.echo(_safe(text), nl=False)
            sys.stdout.flush()
            self._is_in_line = not text.endswith("\n")

    def finish(self) -> None:
        if self._is_in_line:
            self._is_in_line = False
            click.echo()


class _JsonPrinter:
    """An object in a line for each event."""

    def show(self, event: Chunk | Replaced) -> None:
        if isinstance(event, Replaced):
            shown: dict[str, object] = {"id": event.id, "replaced_lane": event.lane}
        else:
            shown = {"id": event.id, "lane": event.lane, "chunk": event.value}
        click.echo(json.dumps(shown, ensure_ascii=False))
        sys.stdout.flush()

    def finish(self) -> None:
        """Nothing is left open."""


def _text_of(value: object) -> str | None:
    """Return the text of a chunk; None if it is none."""
    if isinstance(value, dict):
        fields = cast("JsonObject", value)
        value = fields.get("delta") if fields.get("type") == "text" else None
    return value if isinstance(value, str) else None


def _safe(text: str) -> str:
    """Return text that does nothing to a terminal but show."""
    if not sys.stdout.isatty():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else clean(c) for c in text)
