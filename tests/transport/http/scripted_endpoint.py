"""An HTTP/2 endpoint without TLS that a test plays by hand, one exchange at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable

import h2.config
import h2.connection
import h2.events
import h2.exceptions


class Exchange:
    """One request and its response."""

    def __init__(
        self, connection: _Connection, number: int, headers: Iterable[tuple[str, str]]
    ) -> None:
        self.headers = list(headers)
        self.received = bytearray()
        self.has_ended = False
        """Whether the client has closed its half."""
        self.reset_code: int | None = None
        self.connection = connection
        self._number = number
        self.unread_size = 0
        """Bytes that were not credited back to the client."""
        self._changed = asyncio.Event()
        self._unsent = bytearray()
        self._is_ending = False

    @property
    def fields(self) -> dict[str, str]:
        return dict(self.headers)

    def change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], object], seconds: float = 5.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await self._changed.wait()

    def respond(self, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> None:
        self.connection.h2.send_headers(self._number, [(":status", str(status)), *headers])
        self.connection.flush()

    def send(self, data: bytes) -> None:
        self._unsent += data
        self.pump()

    def end(self) -> None:
        self._is_ending = True
        self.pump()

    def credit(self) -> None:
        """Let the client send more."""
        self.connection.h2.acknowledge_received_data(self.unread_size, self._number)
        self.unread_size = 0
        self.connection.flush()

    def reset(self, code: int) -> None:
        self.connection.h2.reset_stream(self._number, code)
        self.connection.flush()

    def pump(self) -> None:
        """Send what flow control allows."""
        http2 = self.connection.h2
        with contextlib.suppress(h2.exceptions.StreamClosedError):
            while self._unsent:
                size = min(
                    len(self._unsent),
                    http2.local_flow_control_window(self._number),
                    http2.max_outbound_frame_size,
                )
                if size == 0:
                    break
                http2.send_data(self._number, bytes(self._unsent[:size]))
                del self._unsent[:size]
            if self._is_ending and not self._unsent:
                self._is_ending = False
                http2.end_stream(self._number)
        self.connection.flush()

    @property
    def unsent_size(self) -> int:
        """Bytes that the client's flow control holds back."""
        return len(self._unsent)


class _Connection:
    def __init__(self, endpoint: Endpoint, writer: asyncio.StreamWriter) -> None:
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        self.writer = writer
        self.exchanges: dict[int, Exchange] = {}
        self._endpoint = endpoint

    def flush(self) -> None:
        if not self.writer.is_closing():
            self.writer.write(self.h2.data_to_send())

    def go_away(self, last: int) -> None:
        """Tell the client that requests above a number were not processed, and hang up."""
        self.h2.close_connection(last_stream_id=last)
        self.flush()
        self.writer.close()

    def hang_up(self) -> None:
        self.writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader) -> None:
        self.h2.initiate_connection()
        self.flush()
        while data := await reader.read(65536):
            for event in self.h2.receive_data(data):
                self._on_event(event)
            self.flush()

    def _on_event(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                exchange = Exchange(self, event.stream_id, event.headers)
                self.exchanges[event.stream_id] = exchange
                self._endpoint.on_exchange(exchange)
            case h2.events.DataReceived():
                exchange = self.exchanges[event.stream_id]
                exchange.received += event.data
                exchange.unread_size += event.flow_controlled_length
                if self._endpoint.is_reading:
                    exchange.credit()
                exchange.change()
            case h2.events.StreamEnded():
                exchange = self.exchanges[event.stream_id]
                exchange.has_ended = True
                exchange.change()
            case h2.events.StreamReset():
                exchange = self.exchanges[event.stream_id]
                exchange.reset_code = int(event.error_code)
                exchange.change()
            case h2.events.WindowUpdated():
                for exchange in self.exchanges.values():
                    exchange.pump()
            case _:
                pass


class Endpoint:
    """What listens. `exchange` waits for the next request."""

    def __init__(self) -> None:
        self.uri = ""
        self.is_reading = True
        """Whether received bytes are credited back to the client's flow control."""
        self.count = 0
        """Requests so far."""
        self.connections: list[_Connection] = []
        self.on_exchange: Callable[[Exchange], None] = self.put
        self._exchanges: asyncio.Queue[Exchange] = asyncio.Queue()

    def put(self, exchange: Exchange) -> None:
        self.count += 1
        self._exchanges.put_nowait(exchange)

    async def exchange(self) -> Exchange:
        async with asyncio.timeout(5):
            return await self._exchanges.get()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, writer)
        self.connections.append(connection)
        with contextlib.suppress(ConnectionError, h2.exceptions.ProtocolError):
            await connection.serve(reader)
        writer.close()

    async def close(self, server: asyncio.Server) -> None:
        server.close()
        for connection in self.connections:
            connection.hang_up()
        # The handlers of connections end in the next turns of the loop.
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Endpoint]:
    """Listen on a free port of loopback."""
    endpoint = Endpoint()
    server = await asyncio.start_server(endpoint._accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    endpoint.uri = f"http://127.0.0.1:{port}"
    try:
        yield endpoint
    finally:
        await endpoint.close(server)
