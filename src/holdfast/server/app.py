"""A whole server: store, host and HTTP listeners, wired. The only place that names adapters."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import uvicorn

from holdfast.admin.app import create_admin_app
from holdfast.admin.live import PATH as LIVE_PATH
from holdfast.admin.live import create_live_app
from holdfast.admin.sql.limit import SqlLimits
from holdfast.admin.ui_app import INGRESS_PATH, create_ui_app
from holdfast.admin.ui_app import PATH as UI_PATH
from holdfast.domain.approval_link import ROUTE
from holdfast.domain.errors import HoldfastError, UsageError
from holdfast.ingress.app import create_ingress_app
from holdfast.protocol.frame import PATH
from holdfast.protocol.restate.version import VERSION_MAX, VERSION_MAX_BEFORE_TREES
from holdfast.server.approval import LinkKeys
from holdfast.server.clock import SystemClock
from holdfast.server.config import Address, ServerConfig, parse_address
from holdfast.server.host import Host
from holdfast.storage.base import Store
from holdfast.storage.memory import MemoryStore
from holdfast.storage.sqlite import SqliteStore
from holdfast.transport.base import Sign
from holdfast.transport.http.dialer import HttpDialer
from holdfast.transport.websocket_server import UVICORN_OPTIONS, create_worker_endpoint
from holdfast.web.approval import create_approval_app
from holdfast.web.mount import below

if TYPE_CHECKING:
    from holdfast.protocol.identity import Signer

_log = logging.getLogger(__name__)

ASGIApp = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]


def open_store(url: str, *, partition_count: int = 4, durability: str = "full") -> Store:
    """Return the store that a URL names; `Store.open` does the rest.

    Raises:
        UsageError: HF1205, not a store URL.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "memory":
        return MemoryStore(partition_count=partition_count)
    if scheme == "sqlite" and rest:
        path = Path(rest.removeprefix("//"))
        return SqliteStore(path, partition_count=partition_count, durability=durability)
    raise UsageError(
        f"{url!r} does not name a store.",
        code="HF1205",
        hint="Write sqlite:PATH or memory: .",
    )


def read_signer(path: str) -> Signer:
    """Read the key that signs requests to endpoints.

    Raises:
        UsageError: HF1371, the file cannot be read or holds no such key.
    """
    # Here, because most servers sign nothing, and the libraries take a while to load.
    from holdfast.protocol.identity import Signer

    try:
        pem = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(
            f"The key that should sign requests cannot be read from {path}: {error.strerror}.",
            code="HF1371",
            hint="Make one with: openssl genpkey -algorithm ed25519 -out private.pem",
        ) from error
    return Signer(pem)


class _Listener(uvicorn.Server):
    """A uvicorn server that leaves signals to the process that holds it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class Server:
    """A server with its HTTP listeners. Use as an async context manager."""

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.ingress = parse_address(config.ingress, "--ingress")
        self.admin = parse_address(config.admin, "--admin")
        self._listeners: list[tuple[_Listener, asyncio.Task[None]]] = []
        self._fatal: asyncio.Future[BaseException] | None = None
        self._store: Store | None = None
        self.host: Host
        self.public_key: str | None = None
        """What endpoints must trust, once it runs; None when requests are not signed."""

    @property
    def ingress_url(self) -> str:
        """Base URL for clients."""
        return f"http://{self.ingress}"

    @property
    def admin_url(self) -> str:
        """Base URL for operators and workers."""
        return f"http://{self.admin}"

    async def __aenter__(self) -> Server:
        """Open the store, take the partitions, listen.

        Raises:
            UsageError: HF1201, an address is taken; HF1371, the identity key cannot be used.
            StorageError: The store cannot be used.
        """
        config = self.config
        async with contextlib.AsyncExitStack() as undo:
            ingress_socket = _bind(self.ingress, "--ingress")
            undo.callback(ingress_socket.close)
            admin_socket = _bind(self.admin, "--admin")
            undo.callback(admin_socket.close)
            self.ingress = Address(self.ingress.host, ingress_socket.getsockname()[1])
            self.admin = Address(self.admin.host, admin_socket.getsockname()[1])
            clock = SystemClock()
            sign = self._sign(clock)
            version_max = VERSION_MAX if config.is_protocol_v7 else VERSION_MAX_BEFORE_TREES
            self._fatal = asyncio.get_running_loop().create_future()
            self._store = open_store(
                config.store,
                partition_count=config.partition_count,
                durability=config.durability,
            )
            await self._store.open()
            undo.push_async_callback(self._store.close)
            self.host = Host(
                self._store,
                clock,
                owner=f"server {self.admin}",
                body_size_bytes_max=config.body_size_bytes_max,
                inactivity_timeout_ms=config.inactivity_timeout_ms,
                is_state_lazy=config.is_state_lazy,
                retry=config.retry,
                cleanup_interval_s=config.cleanup_interval_ms / 1000,
                dialer=HttpDialer(sign, version_max),
                links=LinkKeys(
                    config.approval_secret, config.public_url.rstrip("/") or self.ingress_url
                ),
                on_fatal=self._on_fatal,
            )
            await self.host.start()
            undo.push_async_callback(self.host.stop)
            worker = create_worker_endpoint(self.host)
            ingress = create_ingress_app(
                self.host,
                routes={ROUTE: create_approval_app(self.host.approvals, needs_link=True)},
            )
            admin = create_admin_app(
                self.host,
                ingress_url=self.ingress_url,
                routes={
                    PATH: worker,
                    LIVE_PATH: create_live_app(self.host),
                    UI_PATH: create_ui_app(),
                    INGRESS_PATH: below(INGRESS_PATH, ingress),
                    ROUTE: create_approval_app(self.host.approvals, needs_link=False),
                },
                sql_limits=SqlLimits(config.sql_rows_max, config.sql_timeout_ms),
            )
            await self._listen(ingress, ingress_socket)
            await self._listen(admin, admin_socket)
            undo.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening, finish what is under way, close the store."""
        for listener, _ in self._listeners:
            listener.should_exit = True
            listener.force_exit = True
        await self.host.stop()
        await asyncio.gather(*(task for _, task in self._listeners))
        assert self._store is not None
        await self._store.close()

    async def serve_until(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set.

        Raises:
            HoldfastError: The server cannot go on, for example because a commit failed.
        """
        assert self._fatal is not None
        stopped = asyncio.get_running_loop().create_task(stop.wait())
        waited: list[asyncio.Future[Any]] = [stopped, self._fatal]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if self._fatal.done():
            error = self._fatal.result()
            if isinstance(error, HoldfastError):
                raise error
            raise HoldfastError(
                f"The server cannot go on after an internal error: {error!r}.",
                hint="Nothing that was acknowledged is lost. Start it again; this is a bug in"
                " Holdfast, and the log has the details.",
            ) from error

    def _sign(self, clock: SystemClock) -> Sign | None:
        if self.config.identity_key_file is None:
            return None
        signer = read_signer(self.config.identity_key_file)
        self.public_key = signer.public_key
        return lambda path, key: signer.headers(path, clock.now_ms() // 1000, key)

    def _on_fatal(self, error: BaseException) -> None:
        if self._fatal is not None and not self._fatal.done():
            self._fatal.set_result(error)

    async def _listen(self, app: ASGIApp, sock: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            http="httptools",
            **UVICORN_OPTIONS,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            date_header=False,
            backlog=2048,
            timeout_graceful_shutdown=5,
        )
        listener = _Listener(config)
        task = asyncio.get_running_loop().create_task(listener.serve(sockets=[sock]))
        self._listeners.append((listener, task))
        while not listener.started:
            if task.done():
                await task
            await asyncio.sleep(0.001)


def _bind(address: Address, option: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((address.host, address.port))
    except OSError as error:
        sock.close()
        what = (
            "is in use" if error.errno == errno.EADDRINUSE else f"cannot be bound: {error.strerror}"
        )
        raise UsageError(
            f"{option} {address} {what}.",
            code="HF1201",
            hint=f"Stop what listens there, or choose another one with {option} HOST:PORT.",
        ) from error
    sock.setblocking(False)
    return sock


__all__ = ["Server", "ServerConfig", "open_store"]
