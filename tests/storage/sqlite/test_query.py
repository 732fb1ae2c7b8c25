from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import apsw
import pytest

import holdfast.storage.sqlite as package
from holdfast.engine.row import Status
from holdfast.storage.scan import Comparison, Condition, Order, Scan, Source
from holdfast.storage.sqlite.chunk import provide_whole
from holdfast.storage.sqlite.detail import TABLES
from holdfast.storage.sqlite.driver import Connection
from holdfast.storage.sqlite.query import QUERIES, parse_queries
from holdfast.storage.sqlite.scan import statement_of

FOLDER = Path(package.__file__).parent


def test_parse() -> None:
    text = "-- Theory.\n\n-- name: one\nSELECT 1,\n  2\n\n-- Why.\n-- name: two\nSELECT 3\n"
    assert parse_queries(text) == {"one": "SELECT 1, 2", "two": "SELECT 3"}


def test_two_statements_of_one_name() -> None:
    with pytest.raises(AssertionError, match="name: one"):
        parse_queries("-- name: one\nSELECT 1\n-- name: one\nSELECT 2\n")


def test_every_statement_is_used() -> None:
    source = "".join(path.read_text() for path in FOLDER.glob("*.py"))
    quoted = set(re.findall(r'"([a-z_]+)"', source))
    used = {name for name in QUERIES if name in quoted}
    # Those of a table are named after it.
    tables = {"lock", "inbox", "timer", "state", "outbox", "dedup", "counter", "invocation"}
    tables |= {"promise", "annex", "approval", *TABLES.values()}
    used |= {f"{verb}_{table}" for verb in ("put", "delete", "load") for table in tables}
    assert set(QUERIES) - used == set()


@pytest.fixture
def schema() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    provide_whole(cast("Connection", connection))
    for path in sorted((FOLDER / "migration").glob("*.sql")):
        connection.execute(path.read_text()).fetchall()
    return connection


def plan(connection: apsw.Connection, sql: str) -> str:
    count = max(map(int, re.findall(r"\?(\d)", sql)), default=0)
    found = connection.execute("EXPLAIN QUERY PLAN " + sql, (None,) * count).fetchall()
    return "\n".join(str(row[3]) for row in found)


def is_explained(name: str) -> bool:
    return QUERIES[name].split()[0] in ("SELECT", "INSERT", "UPDATE", "DELETE")


@pytest.mark.parametrize("name", [name for name in QUERIES if is_explained(name)])
def test_no_statement_reads_a_whole_table(schema: apsw.Connection, name: str) -> None:
    """Lists, scans and `deployments` are meant to; everything else is asked with every record."""
    if name in ("deployments", "live_invocations") or name.startswith("scan_"):
        return
    steps = plan(schema, QUERIES[name].format(filter=""))
    assert "SCAN" not in steps, steps


def test_a_list_of_live_invocations_reads_their_index_only(schema: apsw.Connection) -> None:
    steps = plan(schema, QUERIES["live_invocations"].format(filter="AND status IN (2, 3)"))
    assert "COVERING INDEX invocation_live" in steps


def test_pages_by_status_come_from_the_index(schema: apsw.Connection) -> None:
    steps = plan(schema, QUERIES["live_with_status"])
    assert "invocation_live (partition=? AND status=? AND id>?)" in steps
    assert "TEMP" not in steps


ID = Condition("id", Comparison.IN, ("inv_1",))
LIVE = Condition("status", Comparison.NOT_IN, (Status.COMPLETED,))


@pytest.mark.parametrize(
    ("scan", "expected"),
    [
        (Scan(Source.INVOCATION, (ID,)), "sqlite_autoindex_invocation_1 (id=?)"),
        (Scan(Source.INVOCATION, (LIVE, ID)), "sqlite_autoindex_invocation_1 (id=?)"),
        (Scan(Source.INVOCATION, (LIVE,)), "invocation_live"),
        (Scan(Source.INVOCATION, (LIVE,), Order.NEWEST, 9), "COVERING INDEX invocation_live"),
        (Scan(Source.INVOCATION, (), Order.NEWEST, 9), "INDEX invocation_age"),
        (Scan(Source.JOURNAL, (ID,)), "sqlite_autoindex_invocation_1 (id=?)"),
    ],
)
def test_scans_use_indexes(schema: apsw.Connection, scan: Scan, expected: str) -> None:
    assert expected in plan(schema, statement_of(scan).sql)
