"""`holdfast replay-check`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast
from urllib.parse import quote, urlencode

import click

from holdfast.cli.client import JsonObject, Server
from holdfast.cli.loader import load
from holdfast.cli.option import admin_url, as_json, token
from holdfast.cli.output import clean, note, print_json
from holdfast.cli.problem import CommandError, ExitCode, usage_error
from holdfast.domain.recording import Recording, decode_recording
from holdfast.sdk.app import App
from holdfast.testing.rerun import ReplayReport, read_recording, replay

_OPEN = "pending,running,suspended,backing-off,paused"
_PAGE_SIZE = 200


@click.command("replay-check")
@click.argument("app", metavar="MODULE:APP")
@click.argument("files", metavar="[FILE...]", nargs=-1)
@click.option("--service", metavar="NAME", help="Only runs of this service.")
@click.option("--strict", is_flag=True, help="Also refuse clocks, randomness and I/O in handlers.")
@admin_url
@token
@as_json
def replay_check(
    app: str,
    files: Sequence[str],
    service: str | None,
    strict: bool,
    admin: str,
    token: str | None,
    is_json: bool,
) -> None:
    """Replay recorded runs against your code, and show where it goes another way.

    The runs are those in FILEs, written by `holdfast invocations export`, or else all open ones of
    a server. No step runs, and nothing is sent. Exits with 1 if a run would not go on.

    \b
      holdfast replay-check agent.py:app
      holdfast replay-check agent.py:app tests/runs/*.json
    """
    loaded = load(app)
    if not isinstance(loaded, App):
        raise usage_error(
            f"{app} cannot be replayed", code="HF0553", cause="expected holdfast.App itself"
        )
    if files:
        recordings: Iterator[Recording] = (_read(file) for file in files)
    else:
        names = [name for name in loaded.services if service in (None, name)]
        recordings = _fetch(Server(admin, "--admin", token), names)
    wanted = (r for r in recordings if service in (None, r.start.service))
    reports = [asyncio.run(replay(each, loaded, strict=strict)) for each in wanted]
    if is_json:
        runs = [_view(each) for each in reports]
        print_json({"is_ok": all(each.is_ok for each in reports), "runs": runs})
    else:
        _print(reports)
    if not all(each.is_ok for each in reports):
        sys.exit(ExitCode.RUN_FAILED)


def _read(file: str) -> Recording:
    try:
        return read_recording(Path(file))
    except OSError as error:
        raise usage_error(f"{file} cannot be read", code="HF0553", cause=str(error)) from error


def _fetch(server: Server, services: Sequence[str]) -> Iterator[Recording]:
    """Ask a server for its open runs, newest first."""
    for service in services:
        query = {"service": service, "status": _OPEN, "limit": str(_PAGE_SIZE)}
        while True:
            page = server.get(f"/holdfast/v1/invocations?{urlencode(query)}").json()
            for found in cast("list[JsonObject]", page["invocations"]):
                path = f"/holdfast/v1/invocations/{quote(str(found['id']), safe='')}/export"
                try:
                    yield decode_recording(server.get(path).body)
                except CommandError as error:
                    # It may have ended, and been forgotten, since the list was made.
                    if error.exit_code is not ExitCode.NOT_FOUND:
                        raise
            if not page.get("next"):
                break
            query["before"] = str(page["next"])


def _print(reports: Sequence[ReplayReport]) -> None:
    for report in reports:
        for line in str(report).splitlines():
            click.echo(clean(line))
    diverged = sum(not each.is_ok for each in reports)
    if not reports:
        note("No runs to replay.")
    elif diverged:
        note(f"{diverged} of {len(reports)} runs would fail with HF0570.")
    else:
        note(f"All {len(reports)} runs replay.")


def _view(report: ReplayReport) -> JsonObject:
    return {
        "id": report.invocation_id,
        "target": report.target,
        "is_ok": report.is_ok,
        "end": report.end,
        "entries": report.entry_count,
        "branch": report.branch,
        "recorded": report.recorded,
        "attempted": report.attempted,
        "differences": list(report.differences),
    }
