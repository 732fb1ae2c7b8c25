"""Answers as they travel: in chunks, and without the last one when they break off."""

from __future__ import annotations

import asyncio
import http.client
import io
import json

import pyarrow as pa
import pytest

from holdfast.server.app import Server, ServerConfig

CONFIG = ServerConfig(
    ingress="127.0.0.1:0", admin="127.0.0.1:0", store="memory:", sql_timeout_ms=700
)


def ask(server: Server, query: str, accept: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(server.admin.host, server.admin.port, timeout=30)
    try:
        body = json.dumps({"query": query})
        connection.request("POST", "/v4/query", body, {"accept": accept})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


async def test_answers() -> None:
    async with Server(CONFIG) as server:
        query = "SELECT value FROM generate_series(1, 30000)"
        status, body = await asyncio.to_thread(ask, server, query, "*/*")
        assert status == 200
        table = pa.ipc.open_stream(io.BytesIO(body)).read_all()
        assert table.column(0).to_pylist() == list(range(1, 30001))
        status, body = await asyncio.to_thread(ask, server, query, "application/json")
        assert [row["value"] for row in json.loads(body)["rows"]] == list(range(1, 30001))
        query = "SELECT 1 UNION ALL SELECT count(*) FROM generate_series(1, 100000000000)"
        with pytest.raises(http.client.IncompleteRead):
            await asyncio.to_thread(ask, server, query, "application/json")
        query = "SELECT count(*) FROM generate_series(1, 100000000000)"
        status, body = await asyncio.to_thread(ask, server, query, "*/*")
        assert (status, json.loads(body)["error_code"]) == (504, "HF1406")
