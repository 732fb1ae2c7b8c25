"""`holdfast worker`: runs handlers, connected to a server."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket

import click

from holdfast.cli.loader import load
from holdfast.cli.log import set_up_log
from holdfast.cli.option import check_environment, log_options, token
from holdfast.cli.output import note
from holdfast.cli.problem import ExitCode
from holdfast.cli.process import STOP_SIGNALS, end_soon, end_with_parent, on_stop_signals, run
from holdfast.domain.errors import UsageError
from holdfast.transport.base import HandlerPort
from holdfast.transport.websocket_worker import DRAIN_GRACE_S, run_worker

_REPLACED = "HF1305"


@click.command()
@click.argument("app", metavar="MODULE:APP")
@click.option(
    "--connect",
    envvar="HOLDFAST_CONNECT",
    required=True,
    metavar="URL",
    help="Admin address of the server, such as http://127.0.0.1:9070.",
)
@click.option(
    "--name",
    envvar="HOLDFAST_NAME",
    metavar="NAME",
    help="Name of this process. Of two with one name, the server keeps the newer. [random]",
)
@click.option(
    "--drain-grace",
    "drain_grace_s",
    type=click.FloatRange(0),
    default=DRAIN_GRACE_S,
    show_default=True,
    metavar="SECONDS",
    help="How long steps may finish after SIGTERM.",
)
@token
@log_options
@click.option("--parent", "parent_pid", type=int, hidden=True)
@click.option("--ready-fd", type=int, hidden=True)
def worker(
    app: str,
    connect: str,
    name: str | None,
    drain_grace_s: float,
    token: str | None,
    log_level: str,
    log_format: str,
    parent_pid: int | None,
    ready_fd: int | None,
) -> None:
    """Run your handlers, connected to a server.

    No inbound port is needed. The connection is made again whenever it is lost. On SIGTERM, open
    steps finish, and what waits is handed back.

    \b
      holdfast worker shop/agents.py:app --connect https://holdfast.example:9070
    """
    check_environment()
    is_child = parent_pid is not None
    if parent_pid is not None:
        end_with_parent(parent_pid)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    source = "worker" if is_child else ""
    set_up_log(log_level, log_format, source=source, is_supervised=is_child)
    port = load(app)
    instance = name or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
    try:
        run(_work(port, connect, instance, token, drain_grace_s, parent_pid, ready_fd))
    except UsageError as error:
        if not is_child or error.code != _REPLACED:
            raise
    end_soon(ExitCode.OK)


async def _work(
    port: HandlerPort,
    url: str,
    instance: str,
    token: str | None,
    drain_grace_s: float,
    parent_pid: int | None,
    ready_fd: int | None,
) -> None:
    stop = asyncio.Event()
    # Ctrl-C reaches all processes of a terminal, but a parent tells this one itself when to stop.
    on_stop_signals(stop.set, STOP_SIGNALS if parent_pid is None else [signal.SIGTERM])
    waiting_fd = ready_fd

    def on_ready(deployment_id: str) -> None:
        nonlocal waiting_fd
        if waiting_fd is not None:
            os.write(waiting_fd, deployment_id.encode())
            os.close(waiting_fd)
            waiting_fd = None
        if parent_pid is None:
            names = ", ".join(service.name for service in port.manifest.services)
            note(f"Serving {names} to {url}")

    await run_worker(
        port,
        url,
        instance=instance,
        token=token,
        on_ready=on_ready,
        stop=stop,
        drain_grace_s=drain_grace_s,
    )
