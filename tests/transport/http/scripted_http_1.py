"""An HTTP/1.1 endpoint that a test plays by hand: a connection for each exchange."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable


class Exchange:
    """One request, which has come whole, and its response."""

    def __init__(
        self, fields: dict[str, str], received: bytes, writer: asyncio.StreamWriter
    ) -> None:
        self.fields = fields
        self.received = received
        self.has_ended = True
        """Whether the client has closed its half: always, before a response begins."""
        self.is_cut = False
        """Whether the client has hung up before the response had ended."""
        self.is_over = asyncio.Event()
        self._writer = writer
        self._is_chunked = False

    async def until(self, condition: Callable[[], object], seconds: float = 5.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.001)

    def respond(self, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> None:
        fields = [*headers, ("transfer-encoding", "chunked"), ("connection", "close")]
        head = "".join(f"{name}: {value}\r\n" for name, value in fields)
        self._writer.write(f"HTTP/1.1 {status} Scripted\r\n{head}\r\n".encode())
        self._is_chunked = True

    def send(self, data: bytes) -> None:
        if data and not self._writer.is_closing():
            self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        if not self._writer.is_closing():
            self._writer.write(b"0\r\n\r\n")
        self.is_over.set()

    def break_off(self) -> None:
        """Hang up in the middle."""
        self._writer.transport.abort()
        self.is_over.set()

    @property
    def is_refused(self) -> bool:
        """Whether the client wants no more of the response."""
        return self.is_cut


class Endpoint:
    """What listens; `on_exchange` takes the requests."""

    def __init__(self) -> None:
        self.uri = ""
        self.on_exchange: Callable[[Exchange], None] = lambda exchange: None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The client has hung up, as tests have it do.
        finally:
            del self._open[task]
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split(" ")
        fields = {":method": method, ":path": path}
        for line in head[1:]:
            name, _, value = line.partition(": ")
            fields[name.lower()] = value
        body = await reader.readexactly(int(fields.get("content-length", "0")))
        exchange = Exchange(fields, body, writer)
        self.on_exchange(exchange)
        hung_up = asyncio.ensure_future(reader.read(1))
        over = asyncio.ensure_future(exchange.is_over.wait())
        await asyncio.wait([hung_up, over], return_when=asyncio.FIRST_COMPLETED)
        exchange.is_cut = not exchange.is_over.is_set()
        over.cancel()
        await writer.drain()
        if not exchange.is_cut:
            # Closed by the client, or the rest of the response would be lost with a reset.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await hung_up
        hung_up.cancel()

    async def close(self, server: asyncio.Server) -> None:
        server.close()
        tasks = list(self._open)
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*tasks)


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Endpoint]:
    """Listen on a free port of loopback."""
    endpoint = Endpoint()
    server = await asyncio.start_server(endpoint.accept, "127.0.0.1", 0)
    endpoint.uri = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield endpoint
    finally:
        await endpoint.close(server)
