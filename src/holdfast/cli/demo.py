"""`holdfast demo`: the sample agents, a real crash, and an approval that waits."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
import sys
from collections.abc import Mapping
from importlib import metadata

import click

from holdfast.cli.child import Start, Supervisor
from holdfast.cli.log import set_up_log
from holdfast.cli.option import (
    ADMIN_DEFAULT,
    INGRESS_DEFAULT,
    check_environment,
    server_options,
)
from holdfast.cli.output import note
from holdfast.cli.port import listener_on
from holdfast.cli.problem import ExitCode, usage_error
from holdfast.cli.process import on_stop_signals, run
from holdfast.cli.serving import died, serve_with_child, serving, start_unless_stopped

_APP = "holdfast.demo.agents:app"
_PORT_TRIES = 50


@click.command()
@server_options
@click.option("--exit", "--once", "is_once", is_flag=True, help="End after the show.")
def demo(ingress: str, admin: str, store: str, durability: str, is_once: bool) -> None:
    """See it work: sample agents, a crash, an approval.

    Everything runs on this machine: the model is a scripted one, so no key and no network are
    needed. When a port is taken, the next free pair is used.

    \b
      holdfast demo
    """
    check_environment()
    if importlib.util.find_spec("agents") is None:
        raise usage_error(
            "The demo needs the OpenAI Agents SDK",
            code="HF1230",
            cause="its sample agents are written with it, and it is not installed",
            hint="pip install 'holdfast[openai-agents]'",
        )
    set_up_log("warning", "text")
    sys.exit(run(_run(ingress, admin, store, durability, is_once)))


async def _run(ingress: str, admin: str, store: str, durability: str, is_once: bool) -> int:
    from holdfast.demo.run import Show
    from holdfast.demo.scenarios import MODEL_NAME, SCENARIOS
    from holdfast.testing.scripted_model import ScriptedModel

    stop = asyncio.Event()
    on_stop_signals(stop.set)
    ingress, admin = _free_pair(ingress, admin)
    with ScriptedModel(SCENARIOS) as model:
        async with serving(
            ingress=ingress, admin=admin, store=store, durability=durability
        ) as server:
            click.echo(f"holdfast {metadata.version('holdfast')}  demo, data in {store}\n")
            click.echo(f"  Ingress   {server.ingress_url}")
            click.echo(f"  Admin     {server.admin_url}")
            click.echo(f"  UI        {server.admin_url}/ui/")
            click.echo(f"  Model     {MODEL_NAME} at {model.url}: scripted, needs no key")
            supervisor = Supervisor(
                [_APP, f"--connect={server.admin_url}", "--log-level=warning"],
                lambda line: click.echo(f"  {line}"),
                _environment(model.url),
                is_watched=False,
            )
            result = await start_unless_stopped(supervisor, stop)
            if result is None:
                return ExitCode.OK
            if result is not Start.READY:
                raise died(supervisor)
            options = (
                _option("--ingress", str(server.ingress), INGRESS_DEFAULT),
                _option("--admin", str(server.admin), ADMIN_DEFAULT),
            )
            show = asyncio.ensure_future(Show(server, model, supervisor, click.echo, options).run())
            show.add_done_callback(lambda _: stop.set() if is_once or _failed(show) else None)
            try:
                await serve_with_child(server, supervisor, stop)
            finally:
                show.cancel()
                await asyncio.gather(show, return_exceptions=True)
            if not show.cancelled():
                show.result()
    note("Stopped. What has not finished goes on at the next start.")
    return ExitCode.OK


def _failed(show: asyncio.Future[None]) -> bool:
    return not show.cancelled() and show.exception() is not None


def _environment(model_url: str) -> Mapping[str, str]:
    """Return the environment of the worker: with the scripted model, and without a real one."""
    environment = {**os.environ, "HOLDFAST_SCRIPTED_MODEL_URL": model_url}
    if not environment.get("HOLDFAST_MODEL"):
        # A key that lies around is no permission to spend money on a demo.
        environment.pop("OPENAI_API_KEY", None)
        environment["OPENAI_AGENTS_DISABLE_TRACING"] = "1"
    return environment


def _option(name: str, address: str, default: str) -> str:
    return "" if address == default else f" {name} {address}"


def _free_pair(ingress: str, admin: str) -> tuple[str, str]:
    """Return two addresses that are free: these, or the next pair."""
    from holdfast.server.config import Address, parse_address

    wanted = (parse_address(ingress, "--ingress"), parse_address(admin, "--admin"))
    for step in range(_PORT_TRIES):
        pair = [Address(each.host, each.port + step if each.port else 0) for each in wanted]
        taken = [each for each in pair if not _is_free(each.host, each.port)]
        if not taken:
            return str(pair[0]), str(pair[1])
        if step == 0:
            for each in taken:
                owner = listener_on(each.port)
                note(f"{each} is taken{f' by {owner}' if owner else ''}.")
    # All are taken: the server will say so, with the addresses that were asked for.
    return ingress, admin


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError):
            return False
    return True
