"""`holdfast serve`: handlers as an HTTP endpoint, which servers dial."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
from collections.abc import Generator
from typing import Any, cast

import click
import uvicorn

from holdfast.cli.loader import load
from holdfast.cli.log import set_up_log
from holdfast.cli.option import check_environment, log_options
from holdfast.cli.output import note
from holdfast.cli.port import listener_on
from holdfast.cli.problem import ExitCode, usage_error
from holdfast.cli.process import end_soon, on_stop_signals, run
from holdfast.sdk.app import App
from holdfast.server.config import Address
from holdfast.transport.http.endpoint import HandlerEndpoint
from holdfast.transport.websocket_worker import DRAIN_GRACE_S
from holdfast.web.asgi import ASGIApp

_STREAMS_MAX = 1_000
"""On one HTTP/2 connection. Servers use at most 128."""
_NEVER = 2**31
_BACKLOG = 2048


@click.command()
@click.argument("app", metavar="MODULE:APP")
@click.option(
    "--host",
    envvar="HOLDFAST_SERVE_HOST",
    default="127.0.0.1",
    show_default=True,
    metavar="HOST",
    help="Where to listen. Beyond this machine only with an identity key.",
)
@click.option(
    "--port",
    envvar="HOLDFAST_SERVE_PORT",
    type=click.IntRange(0, 65_535),
    default=9080,
    show_default=True,
    metavar="PORT",
    help="Where to listen; 0 takes a free one.",
)
@click.option(
    "--http",
    "http_version",
    type=click.Choice(["1.1", "2"]),
    default="1.1",
    show_default=True,
    help="2 also speaks HTTP/2, over which one request carries a whole attempt; needs hypercorn.",
)
@click.option(
    "--identity-key",
    "identity_keys",
    envvar="HOLDFAST_IDENTITY_KEYS",
    multiple=True,
    metavar="KEY",
    help="Public key of a server that may invoke, publickeyv1_…; may be repeated.",
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
@log_options
def serve(
    app: str,
    host: str,
    port: int,
    http_version: str,
    identity_keys: tuple[str, ...],
    drain_grace_s: float,
    log_level: str,
    log_format: str,
) -> None:
    """Run your handlers as an HTTP endpoint, to be registered at a server.

    The server dials in for each attempt: a Holdfast server, or one of Restate. On SIGTERM, open
    steps finish, and what waits is handed back.

    \b
      holdfast serve shop/agents.py:app --port 9080
      holdfast deployments register http://127.0.0.1:9080 --use-http1.1
    """
    check_environment()
    set_up_log(log_level, log_format)
    loaded = load(app)
    if not isinstance(loaded, App):
        raise usage_error(
            f"{app} cannot be served over HTTP",
            code="HF1213",
            cause=f"it is a {type(loaded).__name__}; expected holdfast.App",
        )
    endpoint = loaded.endpoint(identity_keys)
    address = Address(host, port)
    if not address.is_loopback and not endpoint.is_guarded:
        raise usage_error(
            f"--host {host} would let everybody invoke the handlers",
            code="HF1386",
            cause="no identity key is given, so requests are not checked",
            hint="Give the public key that your server prints: --identity-key publickeyv1_…",
        )
    if http_version == "2":
        _check_hypercorn()
    names = ", ".join(service.name for service in loaded.manifest.services)
    run(_serve(endpoint, address, names, drain_grace_s, is_http_2=http_version == "2"))
    end_soon(ExitCode.OK)


async def _serve(
    endpoint: HandlerEndpoint, address: Address, names: str, grace_s: float, *, is_http_2: bool
) -> None:
    stop = asyncio.Event()
    on_stop_signals(stop.set)
    listener = bind(address, "--port")
    stopped = asyncio.Event()
    listen = listen_http_2 if is_http_2 else listen_http_1
    serving = asyncio.ensure_future(listen(endpoint, listener, stopped))
    host, port = listener.getsockname()[:2]
    url = f"http://{Address(host, port)}"
    flag = "" if is_http_2 else " --use-http1.1"
    note(f"Serving {names} at {url}")
    note(f"Register it: holdfast deployments register {url}{flag}")
    waiting = asyncio.ensure_future(stop.wait())
    await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not serving.done():
        await endpoint.drain(grace_s)
        stopped.set()
    await serving


class _Uvicorn(uvicorn.Server):
    """Leaves signals to this command."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


async def listen_http_1(app: ASGIApp, listener: socket.socket, stopped: asyncio.Event) -> None:
    """Serve HTTP/1.1 on a bound socket until `stopped` is set; the socket is closed then."""
    config = uvicorn.Config(
        app,
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        date_header=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=1,
    )
    server = _Uvicorn(config)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    waiting = asyncio.ensure_future(stopped.wait())
    await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    server.should_exit = True
    await serving


async def listen_http_2(
    endpoint: HandlerEndpoint, listener: socket.socket, stopped: asyncio.Event
) -> None:
    """Serve HTTP/1.1 and HTTP/2, the latter without TLS, like `listen_http_1`."""
    import hypercorn.asyncio
    import hypercorn.config

    config = hypercorn.config.Config()
    # Taken over: hypercorn closes it.
    config.bind = [f"fd://{listener.detach()}"]
    config.accesslog = config.errorlog = None
    config.include_date_header = config.include_server_header = False
    config.keep_alive_max_requests = _NEVER
    config.h2_max_concurrent_streams = _STREAMS_MAX
    # What was open has ended before.
    config.graceful_timeout = config.shutdown_timeout = 0.2
    # Its types of ASGI are narrower than ours.
    http_2_server = cast("Any", hypercorn.asyncio)
    await http_2_server.serve(endpoint, config, shutdown_trigger=stopped.wait)


def bind(address: Address, option: str) -> socket.socket:
    """Return a socket on which connections already wait.

    Raises:
        CommandError: HF1201, the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        # From now on connections wait; the address is shown before anybody takes them.
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        owner = listener_on(address.port)
        raise usage_error(
            f"{address} cannot be listened on: {error.strerror}",
            code="HF1201",
            cause="" if owner is None else f"{owner} listens there",
            hint=f"Choose another one with {option}.",
        ) from error
    listener.setblocking(False)
    return listener


def _check_hypercorn() -> None:
    """Refuse HTTP/2 where nothing serves it.

    Raises:
        CommandError: HF1387.
    """
    try:
        importlib.import_module("hypercorn")
    except ImportError as error:
        raise usage_error(
            "HTTP/2 needs hypercorn, which is not installed",
            code="HF1387",
            hint="pip install 'holdfast[http2]', or leave --http 2 out.",
        ) from error
