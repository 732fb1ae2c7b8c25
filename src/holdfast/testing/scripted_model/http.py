"""One HTTP/1.1 connection of the scripted model server."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from .scenario import JsonObject

BODY_SIZE_MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """A JSON answer."""

    status: int
    body: JsonObject
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class StreamReply:
    """A stream of server-sent events."""

    events: Iterator[str]
    drop_after_events: int | None = None
    """Cut the connection after that many events."""


def error_reply(status: int, message: str, *, code: str) -> Reply:
    """Return an error in a shape that the clients of all APIs understand."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": None, "code": code, "status": code.upper()}
    return Reply(status, {"type": "error", "error": error})


class Connection(BaseHTTPRequestHandler):
    """Reads requests and writes what `respond` returns, until the client hangs up.

    A subclass says what to respond.
    """

    protocol_version = "HTTP/1.1"
    # Headers and body leave in two writes; with Nagle's algorithm the second waits for an ack.
    disable_nagle_algorithm = True

    def respond(self, body: bytes) -> Reply | StreamReply | None:
        """Answer one request; `None` drops the connection."""
        raise NotImplementedError

    def is_gone(self) -> bool:
        """Return whether the client has closed the connection."""
        try:
            readable, _, _ = select.select([self.connection], [], [], 0)
            return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def do_GET(self) -> None:
        """Serve a GET request."""
        self._serve()

    def do_POST(self) -> None:
        """Serve a POST request."""
        self._serve()

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent: the calls are recorded, and tests read those."""

    def _serve(self) -> None:
        size_bytes = int(self.headers.get("content-length") or 0)
        if size_bytes > BODY_SIZE_MAX_BYTES:
            # The body stays unread, so the connection cannot be used again.
            self.close_connection = True
            self._send(error_reply(413, "the request body is too large", code="too_large"))
            return
        reply = self.respond(self.rfile.read(size_bytes))
        if reply is None:
            self.close_connection = True
        elif isinstance(reply, StreamReply):
            self._stream(reply)
        else:
            self._send(reply)

    def _send(self, reply: Reply) -> None:
        body = json.dumps(reply.body).encode()
        self.send_response(reply.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, reply: StreamReply) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("cache-control", "no-cache")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for sent, event in enumerate(reply.events):
            if sent == reply.drop_after_events:
                # No final chunk: the client must see a broken stream, not a short one.
                self.close_connection = True
                return
            data = event.encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")
