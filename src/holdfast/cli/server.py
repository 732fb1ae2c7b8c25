"""`holdfast server`: a server alone."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from holdfast.cli.log import set_up_log
from holdfast.cli.option import check_environment, log_options, server_options
from holdfast.cli.output import note
from holdfast.cli.process import on_stop_signals, run
from holdfast.cli.serving import serving

if TYPE_CHECKING:
    from holdfast.server.config import Tuning

_OF_RESTATE = {
    "ingress": "RESTATE_INGRESS__BIND_ADDRESS",
    "admin": "RESTATE_ADMIN__BIND_ADDRESS",
    "store": "RESTATE_BASE_DIR",
}
"""Variables of Restate's server that count where neither option nor variable of ours is given."""


@click.command()
@server_options
@click.option(
    "--identity-key",
    "identity_key",
    envvar=["HOLDFAST_IDENTITY_KEY", "RESTATE_REQUEST_IDENTITY_PRIVATE_KEY_PEM_FILE"],
    metavar="FILE",
    help="Private key (Ed25519, PEM) that signs requests to registered endpoints.",
)
@log_options
@click.pass_context
def server(
    context: click.Context,
    ingress: str,
    admin: str,
    store: str,
    durability: str,
    identity_key: str | None,
    log_level: str,
    log_format: str,
) -> None:
    """Run a server alone. Handlers connect to it with `holdfast worker`.

    SIGTERM stops it; what was accepted is on disk and goes on at the next start.

    \b
      holdfast server --store sqlite:/var/lib/holdfast/holdfast.db
      holdfast server --identity-key private.pem
    """
    check_environment()
    # Here, because help and completion need none of it.
    from holdfast.server.config import read_tuning

    set_up_log(log_level, log_format)
    ingress = _or_restate(context, "ingress", ingress)
    admin = _or_restate(context, "admin", admin)
    store = _or_restate(context, "store", store)
    run(_serve(ingress, admin, store, durability, identity_key, read_tuning(os.environ)))


def _or_restate(context: click.Context, name: str, value: str) -> str:
    """Return what a variable of Restate's server says, where nothing else was said."""
    found = os.environ.get(_OF_RESTATE[name])
    if not found or context.get_parameter_source(name) is not ParameterSource.DEFAULT:
        return value
    return f"sqlite:{os.path.join(found, 'holdfast.db')}" if name == "store" else found


async def _serve(
    ingress: str,
    admin: str,
    store: str,
    durability: str,
    identity_key: str | None,
    tuning: Tuning,
) -> None:
    stop = asyncio.Event()
    on_stop_signals(stop.set)
    async with serving(
        ingress=ingress,
        admin=admin,
        store=store,
        durability=durability,
        identity_key_file=identity_key,
        tuning=tuning,
    ) as running:
        note(f"Ingress  {running.ingress_url}")
        note(f"Admin    {running.admin_url}")
        note(f"Store    {store}")
        if running.public_key is not None:
            note(f"Identity {running.public_key}")
        note("Ready")
        await running.serve_until(stop)
