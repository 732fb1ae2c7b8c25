"""`holdfast dev`: a server in this process, the handlers in a child, reloaded on save."""

from __future__ import annotations

import asyncio
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.cli.child import Start, Supervisor
from holdfast.cli.loader import parse_source, project_folder
from holdfast.cli.log import set_up_log
from holdfast.cli.option import check_environment, log_options, server_options
from holdfast.cli.output import clean, note
from holdfast.cli.problem import ExitCode
from holdfast.cli.process import on_stop_signals, run
from holdfast.cli.serving import (
    Watched,
    died,
    serve_with_child,
    serving,
    start_unless_stopped,
)
from holdfast.cli.watch import scan

if TYPE_CHECKING:
    from holdfast.server.app import Server


@click.command()
@click.argument("app", metavar="MODULE:APP")
@server_options
@click.option(
    "--no-reload",
    is_flag=True,
    envvar="HOLDFAST_NO_RELOAD",
    help="Do not load the files again when they change.",
)
@log_options
def dev(
    app: str,
    ingress: str,
    admin: str,
    store: str,
    durability: str,
    no_reload: bool,
    log_level: str,
    log_format: str,
) -> None:
    """Run a server and your handlers, reloaded on save.

    MODULE:APP is a module or a file, and the name of the holdfast.App in it. Ctrl-C stops; what has
    not finished goes on at the next start.

    \b
      holdfast dev agent.py:app
      holdfast dev shop.agents:app --ingress 127.0.0.1:8081 --admin 127.0.0.1:9071
    """
    check_environment()
    set_up_log(log_level, log_format, is_supervised=True)
    source = parse_source(app)
    folder = None if no_reload else project_folder(source)
    arguments = [app, f"--log-level={log_level}", f"--log-format={log_format}"]

    async def go() -> int:
        begun_s = time.monotonic()
        stop = asyncio.Event()
        on_stop_signals(stop.set)
        async with serving(
            ingress=ingress, admin=admin, store=store, durability=durability
        ) as running:
            supervisor = Supervisor(
                [*arguments, f"--connect={running.admin_url}"], note, is_watched=folder is not None
            )
            watched = None if folder is None else Watched(folder, scan(folder))
            result = await start_unless_stopped(supervisor, stop)
            if result is None:
                return ExitCode.OK
            if result is Start.NOT_LOADED:
                return ExitCode.USAGE  # It has said why: it shares our standard error.
            if result is Start.DIED:
                raise died(supervisor)
            _welcome(running, app, store, folder, time.monotonic() - begun_s)
            await serve_with_child(running, supervisor, stop, watched)
            note("Stopped. What has not finished goes on at the next start.")
            return ExitCode.OK

    sys.exit(run(go()))


def _welcome(running: Server, app: str, store: str, folder: Path | None, took_s: float) -> None:
    services = ", ".join(clean(service.name) for service in running.host.services())
    shown = _relative(folder) if folder is not None else ""
    note(f"holdfast {metadata.version('holdfast')}  ready in {took_s:.1f} s, data in {store}")
    note("")
    note(f"  Services  {services or 'none'}    ({app})")
    note(f"  Ingress   {running.ingress_url}")
    note(f"  Admin     {running.admin_url}")
    note(f"  UI        {running.admin_url}/ui/")
    note("")
    if shown:
        note(f"  Files in {shown} are watched: save, and the new code takes over.")
    note("  Ctrl-C stops.")
    note("")


def _relative(folder: Path) -> str:
    return "this folder" if folder == Path.cwd() else str(folder)
