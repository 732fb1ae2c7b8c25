"""`POST /query`: answers SQL, as Arrow or JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import msgspec

from holdfast.admin.http import Request, decode_body
from holdfast.admin.sql.limit import QUERIES_MAX, SqlLimits
from holdfast.server.handle import ServerHandle
from holdfast.web.asgi import JSON_HEADER, Headers, StreamedResponse
from holdfast.web.problem import Refusal

if TYPE_CHECKING:
    from holdfast.admin.sql.run import Run

_JSON = "application/json"
_ARROW_HEADER = (b"content-type", b"application/vnd.apache.arrow.stream")
_COLUMNS_HEADER = b"x-holdfast-columns"
"""Names of all columns as a JSON list, in order: rows of JSON leave out what is null."""
_COLUMNS_SIZE_MAX = 16 * 1024


class _Body(msgspec.Struct):
    query: str


_decode = msgspec.json.Decoder(_Body).decode


class SqlEndpoint:
    """Runs queries, a few at a time."""

    def __init__(self, handle: ServerHandle, limits: SqlLimits) -> None:
        self._handle = handle
        self._limits = limits
        self._running: set[Run] = set()

    async def query(self, request: Request) -> StreamedResponse:
        """Answer a query: in Arrow, or in JSON if exactly that is accepted."""
        text = _query_of(request.body)
        is_json = request.headers.get("accept", "").strip() == _JSON
        # The first import of the engine takes a while.
        run = (await asyncio.to_thread(_engine))(self._handle, self._limits, text)
        self._running = {it for it in self._running if not it.is_over}
        if len(self._running) >= QUERIES_MAX:
            raise Refusal(
                429,
                "HF1407",
                f"{QUERIES_MAX} queries are running; more are not taken.",
                hint="Try again in a moment.",
            )
        self._running.add(run)
        pieces = run.pieces(is_json=is_json)
        # Nearly everything that can fail fails before the first piece, while there is a status.
        first = await anext(pieces)
        if not is_json:
            return StreamedResponse(200, [_ARROW_HEADER], _joined(first, pieces))
        headers: Headers = [JSON_HEADER]
        columns = json.dumps(run.columns).encode()
        if len(columns) <= _COLUMNS_SIZE_MAX:
            headers.append((_COLUMNS_HEADER, columns))
        return StreamedResponse(200, headers, _joined(first, pieces))


async def _joined(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with contextlib.aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


def _query_of(body: bytes) -> str:
    def refuse(why: str) -> Refusal:
        return Refusal(
            400,
            "HF1408",
            f"The body is not a query: {why}",
            hint='Send {"query": "SELECT …"}.',
        )

    return decode_body(body, _decode, refuse).query


def _engine() -> type[Run]:
    """Import what needs the extra."""
    try:
        from holdfast.admin.sql.run import Run
    except ImportError as error:
        raise Refusal(
            501,
            "HF1400",
            f"SQL needs the package {error.name}, which is not installed on the server.",
            hint="Install it where the server runs: pip install 'holdfast[sql]'",
        ) from error
    return Run
