"""`holdfast mcp`: handlers as tools for agents."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable
from importlib import metadata
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from holdfast.cli.client import JsonObject, Server
from holdfast.cli.log import set_up_log
from holdfast.cli.option import admin_url, check_environment, ingress_url, log_options, token
from holdfast.cli.output import note
from holdfast.cli.problem import CommandError, ExitCode, usage_error
from holdfast.cli.process import end_soon, on_stop_signals, run
from holdfast.domain.errors import TransportError

if TYPE_CHECKING:
    from holdfast.interop.mcp_server import McpServer
    from holdfast.interop.offer import Offer
    from holdfast.server.config import Address

_AWAY = (ExitCode.UNREACHABLE, ExitCode.TIMEOUT)


@click.command()
@click.option("--all", "is_all", is_flag=True, help="Offer all public handlers.")
@click.option(
    "--service",
    "services",
    multiple=True,
    metavar="NAME",
    help="Offer only handlers of this service; may be repeated.",
)
@click.option(
    "--http",
    "http",
    metavar="HOST:PORT",
    help="Speak MCP over HTTP, there; else over standard input and output.",
)
@ingress_url
@admin_url
@token
@log_options
def mcp(
    is_all: bool,
    services: tuple[str, ...],
    http: str | None,
    ingress: str,
    admin: str,
    token: str | None,
    log_level: str,
    log_format: str,
) -> None:
    """Offer your handlers as tools to agents, over the Model Context Protocol.

    Offered are handlers with the option mcp=True, or all public ones with --all. A call is a
    durable invocation: it outlives this command, and a request that is sent again is not run twice.

    \b
      holdfast mcp
      holdfast mcp --all --service WeatherAgent
      holdfast mcp --http 127.0.0.1:9700
    """
    check_environment()
    address = None if http is None else _address(http)
    if importlib.util.find_spec("mcp") is None:
        raise usage_error(
            "Tools for agents need the MCP SDK, which is not installed",
            code="HF1223",
            hint="pip install 'holdfast[mcp]'",
        )
    set_up_log(log_level, log_format)
    doors = (Server(ingress, "--ingress", token), Server(admin, "--admin", token))
    run(_serve(doors, token, set(services), is_all, address))


def _address(text: str) -> Address:
    from holdfast.server.config import parse_address

    address = parse_address(text, "--http")
    if not address.is_loopback:
        raise usage_error(
            f"--http {text} would let everybody call the handlers",
            code="HF1203",
            cause="there is no authentication",
            hint="Listen on 127.0.0.1 and put an authenticating proxy in front.",
        )
    return address


async def _serve(
    doors: tuple[Server, Server],
    token: str | None,
    services: set[str],
    is_all: bool,
    address: Address | None,
) -> None:
    from holdfast.interop.call import Caller
    from holdfast.interop.mcp_server import McpServer
    from holdfast.interop.offer import read_offers
    from holdfast.sdk.http_client import Client

    ingress, admin = doors

    async def list_offers() -> list[Offer]:
        found = await _ask(admin, "/services")
        return read_offers(found, services=services, is_all=is_all)

    async def read_status(invocation_id: str) -> str:
        found = await _ask(admin, f"/holdfast/v1/invocations/{quote(invocation_id, safe='')}")
        return str(found["status"])

    async with Client(ingress.url, admin_url=admin.url, token=token) as client:
        server = McpServer(
            Caller(client), list_offers, read_status, version=metadata.version("holdfast")
        )
        stop = asyncio.Event()
        on_stop_signals(stop.set)
        if address is None:
            await _serve_stdio(server, stop)
        else:
            await _serve_http(server, address, stop)


async def _ask(admin: Server, path: str) -> JsonObject:
    """Ask the admin API.

    Raises:
        TransportError: It is away: ask again.
        CommandError: It refuses.
    """
    try:
        return (await asyncio.to_thread(admin.get, path)).json()
    except CommandError as error:
        if error.exit_code not in _AWAY:
            raise
        raise TransportError(error.message, code=error.code, hint=error.hint) from error


class _Watched:
    """A stream of messages that tells when it ends.

    Without it, the end of standard input would look to a call like its client's cancellation.
    """

    def __init__(self, stream: Any, on_end: Callable[[], None]) -> None:
        self._stream = stream
        self._on_end = on_end

    @property
    def last_context(self) -> Any:
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> Any:
        try:
            return await self._stream.receive()
        except BaseException:
            self._on_end()
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> _Watched:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except BaseException:
            self._on_end()
            raise

    async def __aenter__(self) -> _Watched:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None:
        result: bool | None = await self._stream.__aexit__(exc_type, exc_val, exc_tb)
        return result


async def _serve_stdio(server: McpServer, stop: asyncio.Event) -> None:
    from mcp.server.stdio import stdio_server

    # From here on standard output belongs to the protocol.
    async with stdio_server() as (reader, writer):
        options = server.server.create_initialization_options()
        running = server.server.run(_Watched(reader, server.leave), writer, options)
        serving = asyncio.ensure_future(running)
        waiting = asyncio.ensure_future(stop.wait())
        await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        server.leave()
        await server.finish()
        if not serving.done():
            # A thread reads standard input, and nothing but input can wake it.
            end_soon(ExitCode.OK, grace_s=0)
            serving.cancel()
        await asyncio.wait([serving])
        if not serving.cancelled():
            serving.result()


async def _serve_http(server: McpServer, address: Address, stop: asyncio.Event) -> None:
    from holdfast.cli.serve import bind, listen_http_1
    from holdfast.server.config import Address

    listener = bind(address, "--http")
    host, port = listener.getsockname()[:2]
    # Named so, it also refuses what web pages of other hosts send.
    app = server.server.streamable_http_app(host="127.0.0.1")
    stopped = asyncio.Event()
    async with server.server.session_manager.run():
        serving = asyncio.ensure_future(listen_http_1(app, listener, stopped))
        note(f"Tools at http://{Address(host, port)}/mcp")
        waiting = asyncio.ensure_future(stop.wait())
        await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        server.leave()
        await server.finish()
        stopped.set()
        await serving
