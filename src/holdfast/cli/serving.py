"""Starts the server inside a command, and tells clearly why it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from holdfast.cli.child import Start, Supervisor, how_it_ended
from holdfast.cli.port import listener_on
from holdfast.cli.problem import CommandError, ExitCode, usage_error
from holdfast.cli.watch import Snapshot, watch
from holdfast.domain.errors import HoldfastError, UsageError

if TYPE_CHECKING:
    from holdfast.server.app import Server
    from holdfast.server.config import Tuning

PORT_TAKEN = "HF1201"


@contextlib.asynccontextmanager
async def serving(
    *,
    ingress: str,
    admin: str,
    store: str,
    durability: str,
    identity_key_file: str | None = None,
    tuning: Tuning | None = None,
) -> AsyncGenerator[Server]:
    """Run a server.

    Args:
        ingress: Where clients call.
        admin: Where operators and workers connect.
        store: URL of the store.
        durability: Of its commits.
        identity_key_file: Holds the private key that signs requests to endpoints.
        tuning: What else the environment says.

    Raises:
        HoldfastError: A setting, an address or the store cannot be used.
    """
    from holdfast.server.app import Server, ServerConfig

    config = ServerConfig(
        ingress=ingress,
        admin=admin,
        store=store,
        durability=durability,
        identity_key_file=identity_key_file,
        # Not options: the one is secret, the other belongs to where the server is put.
        public_url=os.environ.get("HOLDFAST_PUBLIC_URL", ""),
        approval_secret=os.environ.get("HOLDFAST_APPROVAL_SECRET") or None,
        **({} if tuning is None else tuning._asdict()),
    )
    server = Server(config)
    try:
        await server.__aenter__()
    except UsageError as error:
        if error.code != PORT_TAKEN:
            raise
        raise with_owner(error, {"--ingress": ingress, "--admin": admin}) from error
    try:
        yield server
    finally:
        await server.__aexit__(None, None, None)


async def start_unless_stopped(supervisor: Supervisor, stop: asyncio.Event) -> Start | None:
    """Start the worker process; None when `stop` was set before it served."""
    starting = asyncio.ensure_future(supervisor.start())
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            return starting.result()
        await supervisor.stop()
        return None
    finally:
        starting.cancel()
        stopped.cancel()
        await asyncio.gather(starting, stopped, return_exceptions=True)


class Watched(NamedTuple):
    """Files of a project."""

    folder: Path
    known: Snapshot
    """As they were before they were loaded."""


def died(supervisor: Supervisor) -> CommandError:
    """Return the error for a worker process that did not live to serve."""
    assert supervisor.current is not None, "it was started"
    return CommandError(
        "The worker did not get as far as to serve",
        code="HF1215",
        exit_code=ExitCode.RUN_FAILED,
        cause=f"its process {how_it_ended(supervisor.current.ended.result())}",
        hint="What it wrote before is above.",
    )


async def serve_with_child(
    server: Server, supervisor: Supervisor, stop: asyncio.Event, watched: Watched | None = None
) -> None:
    """Serve, and keep the worker process running, until `stop` is set; then let it drain.

    Args:
        server: A running server.
        supervisor: Of a worker process that has been started.
        stop: Ends this.
        watched: The files that the worker was loaded from; it is replaced when they change.

    Raises:
        HoldfastError: The server cannot go on.
    """
    parts: list[Coroutine[object, object, None]] = [server.serve_until(stop), supervisor.run()]
    if watched is not None:
        parts.append(watch(watched.folder, watched.known, supervisor.reload))
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # The server still runs: what the handlers hand back now is recorded.
        await supervisor.stop()


def with_owner(error: UsageError, addresses: dict[str, str]) -> HoldfastError:
    """Add to "port taken" who has taken it."""
    for option, address in addresses.items():
        if option in error.message:
            owner = listener_on(int(address.rpartition(":")[2]))
            if owner is not None:
                return usage_error(
                    error.message, code=error.code, cause=f"{owner} listens there", hint=error.hint
                )
    return error
