"""`POST /query`: forms of answers, errors, limits."""

from __future__ import annotations

import asyncio
import builtins
import json
import subprocess
import sys
from typing import Any

import pytest

from holdfast.admin.app import create_admin_app
from holdfast.admin.sql.limit import QUERIES_MAX, QUERY_SIZE_MAX, SqlLimits
from holdfast.server.host import Host

from .client import SqlClient
from .conftest import PAUSED

BODY = json.dumps({"query": "SELECT 1 AS a"}).encode()
ENDLESS = "SELECT COUNT(*) FROM generate_series(1, 100000000000)"


@pytest.mark.parametrize("path", ["/query", "/v2/query", "/v3/query", "/v4/query"])
async def test_paths(sql: SqlClient, path: str) -> None:
    assert (await sql.post(BODY, "application/json", path)).rows == [{"a": 1}]


@pytest.mark.parametrize(
    "accept", ["*/*", "", "application/json, */*", "application/vnd.apache.arrow.stream"]
)
async def test_everything_but_json_alone_gets_arrow(sql: SqlClient, accept: str) -> None:
    answer = await sql.post(BODY, accept)
    assert answer.arrow.to_pylist() == [{"a": 1}]
    assert answer.is_whole


async def test_an_empty_result_has_a_schema(sql: SqlClient) -> None:
    query = "SELECT id, created_at FROM sys_invocation WHERE status = 'ready';"
    assert (await sql.arrow(query)).schema.names == ["id", "created_at"]
    answer = await sql.ask(query)
    assert (answer.body, answer.columns) == (b'{"rows":[]}', ["id", "created_at"])


async def test_names_of_columns_are_known_though_nulls_are_left_out(sql: SqlClient) -> None:
    answer = await sql.ask("SELECT NULL AS a, 1 AS b, 'ä' AS \"ü\"")
    assert answer.columns == ["a", "b", "ü"]
    assert answer.rows == [{"b": 1, "ü": "ä"}]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "SELEC 1",
        "SELECT 1; SELECT 2",
        "SELECT * FROM nowhere",
        "SELECT nothing FROM state",
        "SELECT nothing()",
        "INSERT INTO state (key) VALUES ('a')",
        "DELETE FROM state",
        "UPDATE state SET key = 'a'",
        "CREATE TABLE t (a INT)",
        "CREATE VIEW v AS SELECT 1",
        "DROP TABLE state",
        "DROP VIEW sys_invocation",
        "SET datafusion.execution.batch_size = 1",
        "COPY (SELECT 1) TO '/tmp/holdfast-copied.csv'",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM sys_invocation_rows",
        "SELECT CAST('a' AS INT)",
    ],
)
async def test_what_is_no_query(sql: SqlClient, query: str) -> None:
    assert await sql.refused(query) == (400, "HF1401")
    assert (await sql.ask(query, "*/*")).status == 400


async def test_a_query_that_fails(sql: SqlClient) -> None:
    assert await sql.refused("SELECT 1 / (journal_size - journal_size) FROM sys_journal") == (
        400,
        "HF1401",
    )
    answer = await sql.ask("SELECT 1 / (journal_size - journal_size) AS a FROM sys_invocation")
    assert (answer.status, answer.json["error_code"]) == (500, "HF1402")
    assert answer.json["message"].startswith("The query failed while it ran: ")


async def test_too_much_memory(sql: SqlClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.admin.sql.session.MEMORY_BYTES_MAX", 1_000_000)
    query = "SELECT array_agg(value) FROM generate_series(1, 1000000)"
    assert await sql.refused(query) == (500, "HF1402")


async def test_a_malformed_id(sql: SqlClient) -> None:
    assert await sql.refused("SELECT * FROM sys_invocation WHERE id = 'x'") == (500, "HF1403")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"query": 1}',
        json.dumps({"query": "SELECT 1 " + " " * QUERY_SIZE_MAX}).encode(),
        json.dumps({"query": "SELECT " + "1+" * 2000 + "1"}).encode(),
        json.dumps({"query": "SELECT " + "n||" * 2000 + "n"}).encode(),
        json.dumps({"query": "SELECT 1" + "::INT" * 2000}).encode(),
        json.dumps(
            {"query": "SELECT 1 FROM " + ",".join(f"state a{i}" for i in range(600))}
        ).encode(),
    ],
)
async def test_bodies_that_are_not_taken(sql: SqlClient, body: bytes) -> None:
    answer = await sql.post(body)
    assert (answer.status, answer.json["error_code"]) == (400, "HF1408")


async def test_long_lists_are_taken(sql: SqlClient) -> None:
    ids = ", ".join([f"'{PAUSED}'"] * 2000)
    assert await sql.rows(f"SELECT id FROM sys_invocation WHERE id IN ({ids})") == [{"id": PAUSED}]


def limited(host: Host, **limits: int) -> SqlClient:
    return SqlClient(create_admin_app(host, sql_limits=SqlLimits(**limits)))


async def test_too_many_rows(host: Host) -> None:
    sql = limited(host, rows_max=3)
    assert await sql.refused("SELECT COUNT(1) FROM sys_invocation") == (400, "HF1405")
    assert len(await sql.rows("SELECT id FROM sys_invocation LIMIT 3")) == 3
    assert await sql.rows(f"SELECT id FROM sys_journal WHERE id = '{PAUSED}'") == []


async def test_too_many_bytes(sql: SqlClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.admin.sql.session.READ_BYTES_MAX", 100)
    assert await sql.refused("SELECT * FROM sys_invocation") == (400, "HF1405")


async def test_out_of_time(host: Host) -> None:
    sql = limited(host, timeout_ms=50)
    await sql.ask("SELECT 1")
    assert await sql.refused(ENDLESS) == (504, "HF1406")


async def test_an_answer_that_has_begun_breaks_off(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    sql = limited(host, timeout_ms=700)
    await sql.ask("SELECT 1")
    answer = await sql.ask(
        "SELECT 1 AS a UNION ALL SELECT COUNT(*) FROM generate_series(1, 100000000000)"
    )
    assert (answer.status, answer.is_whole) == (200, False)
    assert "a response was broken off" in caplog.text


async def test_too_many_queries(host: Host) -> None:
    sql = limited(host, timeout_ms=400)
    await sql.ask("SELECT 1")
    answers = await asyncio.gather(*(sql.ask(ENDLESS) for _ in range(QUERIES_MAX + 1)))
    busy = [answer for answer in answers if answer.status == 429]
    assert [answer.json["error_code"] for answer in busy] == ["HF1407"]
    assert busy[0].headers["retry-after"] == "1"
    assert await sql.rows("SELECT 1 AS a") == [{"a": 1}]


def test_the_server_does_not_need_the_extra() -> None:
    code = (
        "import sys, holdfast.server.app;"
        "sys.exit(any(name in sys.modules for name in ('pyarrow', 'datafusion')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_without_the_extra(sql: SqlClient, monkeypatch: pytest.MonkeyPatch) -> None:
    known = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("holdfast.admin.sql.run"):
            raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")
        return known(name, *rest)

    monkeypatch.delitem(sys.modules, "holdfast.admin.sql.run", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    answer = await sql.ask("SELECT 1")
    assert (answer.status, answer.json["error_code"]) == (501, "HF1400")
    assert "pip install 'holdfast[sql]'" in answer.json["hint"]
