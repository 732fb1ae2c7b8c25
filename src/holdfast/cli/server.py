"""`holdfast server`: a server alone."""

from __future__ import annotations

import asyncio

import click

from holdfast.cli.log import set_up_log
from holdfast.cli.option import check_environment, log_options, server_options
from holdfast.cli.output import note
from holdfast.cli.process import on_stop_signals, run
from holdfast.cli.serving import serving


@click.command()
@server_options
@log_options
def server(
    ingress: str, admin: str, store: str, durability: str, log_level: str, log_format: str
) -> None:
    """Run a server alone. Handlers connect to it with `holdfast worker`.

    SIGTERM stops it; what was accepted is on disk and goes on at the next start.

    \b
      holdfast server --store sqlite:/var/lib/holdfast/holdfast.db
    """
    check_environment()
    set_up_log(log_level, log_format)
    run(_serve(ingress, admin, store, durability))


async def _serve(ingress: str, admin: str, store: str, durability: str) -> None:
    stop = asyncio.Event()
    on_stop_signals(stop.set)
    async with serving(ingress=ingress, admin=admin, store=store, durability=durability) as running:
        note(f"Ingress  {running.ingress_url}")
        note(f"Admin    {running.admin_url}")
        note(f"Store    {store}")
        note("Ready")
        await running.serve_until(stop)
