"""What Restate's CLI and web UI ask, in the words that they use."""

from __future__ import annotations

import pytest

from .client import SqlClient
from .conftest import (
    BACKING_OFF,
    COMPLETED,
    FAILED,
    PAUSED,
    PENDING,
    SCHEDULED,
    SUSPENDED,
)

COUNT = """SELECT COUNT(1) AS total FROM (SELECT * FROM sys_invocation LIMIT 50000) inv
    WHERE inv.status != 'completed'"""
OPEN = "inv.status != 'completed'"
ORDER = "ORDER BY inv.created_at DESC, inv.id LIMIT 100"


def newest_first(*ids: str) -> list[str]:
    made = [COMPLETED, FAILED, SUSPENDED, PAUSED, BACKING_OFF, PENDING, SCHEDULED]
    return sorted(ids, key=made.index, reverse=True)


async def ids(sql: SqlClient, query: str) -> list[str]:
    return [row["id"] for row in await sql.rows(query)]


async def test_the_count_is_read_by_position(sql: SqlClient) -> None:
    table = await sql.arrow(COUNT)
    assert str(table.schema.field(0).type) == "int64"
    assert table.column(0).to_pylist() == [5]
    table = await sql.arrow("SELECT COUNT(1) FROM sys_invocation")
    assert table.schema.names == ["count(Int64(1))"]
    assert not table.schema.field(0).nullable


FILTERS = [
    (OPEN, (SUSPENDED, PAUSED, BACKING_OFF, PENDING, SCHEDULED)),
    ("inv.status IN ('paused', 'backing-off')", (PAUSED, BACKING_OFF)),
    (f"{OPEN} AND inv.target_service_name IN ('Echo')", (SUSPENDED, SCHEDULED)),
    ("inv.target_handler_name IN ('do', 'put')", (PAUSED, BACKING_OFF, FAILED, PENDING)),
    ("inv.target_service_key IN ('other')", (PENDING,)),
    (
        "(inv.pinned_deployment_id IN ('dp_gone')"
        " OR inv.last_attempt_deployment_id IN ('dp_gone'))",
        (COMPLETED, BACKING_OFF),
    ),
    (
        "inv.pinned_deployment_id IS NOT NULL"
        " AND inv.pinned_deployment_id NOT IN (SELECT id FROM sys_deployment)",
        (COMPLETED, BACKING_OFF),
    ),
    (
        "inv.target_service_name IN (SELECT name FROM sys_service WHERE ty = 'virtual_object')",
        (FAILED, PENDING),
    ),
]


@pytest.mark.parametrize(("where", "expected"), FILTERS)
async def test_lists(sql: SqlClient, where: str, expected: tuple[str, ...]) -> None:
    query = f"SELECT inv.id FROM sys_invocation inv WHERE {where} {ORDER}"
    assert await ids(sql, query) == newest_first(*expected)
    query = query.replace("DESC", "ASC")
    assert await ids(sql, query) == newest_first(*expected)[::-1]


async def test_details(sql: SqlClient) -> None:
    wanted = newest_first(PAUSED, SUSPENDED)
    rows = await sql.rows(
        f"""SELECT inv.id, inv.target, inv.target_service_ty, inv.idempotency_key, inv.status,
        inv.created_at, inv.modified_at AS state_modified_at, inv.pinned_deployment_id,
        inv.retry_count AS num_retries, inv.last_failure AS last_failure_message,
        inv.last_failure_related_entry_index AS last_failure_entry_index,
        inv.last_failure_related_entry_name AS last_failure_entry_name,
        inv.last_failure_related_entry_type AS last_failure_entry_ty,
        inv.last_attempt_deployment_id, inv.last_attempt_server, inv.next_retry_at,
        inv.last_start_at, inv.invoked_by_id, inv.invoked_by_target, inv.trace_id,
        inv.completion_result, inv.completion_failure,
        dp.id IS NOT NULL AS pinned_deployment_exists
        FROM sys_invocation inv LEFT JOIN sys_deployment dp ON dp.id = inv.pinned_deployment_id
        WHERE inv.id IN ('{PAUSED}', '{SUSPENDED}') AND {OPEN} {ORDER}"""
    )
    assert [row["id"] for row in rows] == wanted
    assert rows[0]["num_retries"] == 3
    assert rows[0]["last_failure_message"].startswith("[500 Internal]")
    assert [row["pinned_deployment_exists"] for row in rows] == [False, False]


async def test_probes_of_capabilities(sql: SqlClient) -> None:
    probe = (
        "SELECT COUNT(*) FROM information_schema.columns"
        " WHERE table_name = 'sys_journal' AND column_name IN ({})"
    )
    for names, count in (("'promise_name'", 1), ("'version', 'entry_json', 'appended_at'", 3)):
        assert (await sql.arrow(probe.format(names))).column(0).to_pylist() == [count]


async def test_the_journal_of_a_description(sql: SqlClient) -> None:
    rows = await sql.rows(
        f"""SELECT sj.index, sj.entry_type, sj.completed, sj.invoked_id, sj.invoked_target,
        sj.sleep_wakeup_at, sj.name, sj.promise_name, sj.version, sj.entry_json, sj.appended_at
        FROM sys_journal sj WHERE sj.id = '{COMPLETED}' ORDER BY index DESC LIMIT 100"""
    )
    assert [row["index"] for row in rows] == list(range(8, -1, -1))


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (f"id = '{PAUSED}' AND status != 'completed'", {PAUSED}),
        ("target LIKE 'Echo/%' AND status = 'completed'", {COMPLETED}),
        (
            "((target = 'Other/do' AND target_service_ty = 'service')"
            " OR (target LIKE 'Other/do/%' AND target_service_ty != 'service'))"
            " AND status IN ('paused', 'invoked', 'suspended')",
            {PAUSED, BACKING_OFF},
        ),
        ("target LIKE 'Box/k%' AND status == 'completed'", {FAILED}),
        ("target LIKE 'Nope/%'", set()),
    ],
)
async def test_what_operations_are_done_to(sql: SqlClient, where: str, expected: set[str]) -> None:
    query = f"SELECT id, target FROM sys_invocation_status WHERE {where} LIMIT 500"
    assert set(await ids(sql, query)) == expected


async def test_deployments(sql: SqlClient) -> None:
    count = await sql.arrow(
        "SELECT COUNT(1) AS inv_count FROM sys_invocation_status"
        " WHERE pinned_deployment_id = 'dp_gone' AND status != 'completed'"
    )
    assert count.column(0).to_pylist() == [1]
    rows = await sql.rows(
        "SELECT target_service_name AS service, target_handler_name AS handler,"
        " COUNT(1) AS inv_count FROM sys_invocation_status"
        " WHERE pinned_deployment_id = 'dp_gone' AND status != 'completed'"
        " GROUP BY pinned_deployment_id, target_service_name, target_handler_name"
    )
    assert rows == [{"service": "Other", "handler": "do", "inv_count": 1}]


async def test_status_of_services(sql: SqlClient, running: str) -> None:
    rows = await sql.rows(
        """SELECT target_service_name, target_handler_name, 'pending' AS status,
        COUNT(1) AS num_invocations, MIN(created_at) AS oldest_at,
        FIRST_VALUE(id ORDER BY created_at ASC) AS oldest_invocation
        FROM sys_invocation_status WHERE status == 'inboxed'
        GROUP BY target_service_name, target_handler_name"""
    )
    [row] = rows
    assert (row["status"], row["oldest_invocation"]) == ("pending", PENDING)
    assert row["oldest_at"] == "2026-11-18T11:06:46Z"
    rows = await sql.rows(
        """SELECT target_service_name, status, COUNT(1) AS n, sum(retry_count) AS retries,
        first_value(id) AS any_id FROM sys_invocation WHERE status != 'completed'
        GROUP BY target_service_name, target_handler_name, status
        ORDER BY target_service_name, status"""
    )
    assert [(r["target_service_name"], r["status"], r["n"], r.get("retries")) for r in rows] == [
        ("Box", "pending", 1, None),
        ("Echo", "running", 1, 1),
        ("Echo", "scheduled", 1, None),
        ("Echo", "suspended", 1, None),
        ("Other", "backing-off", 1, 2),
        ("Other", "paused", 1, 3),
    ]
    inbox = "SELECT service_name, service_key, COUNT(1) AS n, FIRST_VALUE(id ORDER BY"
    inbox += " sequence_number ASC) AS head FROM sys_inbox GROUP BY service_name, service_key"
    assert await sql.rows(inbox) == [
        {"service_name": "Box", "service_key": "other", "n": 1, "head": PENDING}
    ]


@pytest.mark.parametrize("path", ["", "public.", "restate.public.", '"restate"."public".'])
async def test_whole_names(sql: SqlClient, path: str) -> None:
    for table, count in (("sys_inbox", 1), ("sys_invocation", 7), ('"sys_invocation_status"', 7)):
        query = f"SELECT count(*) AS n FROM {path}{table} AS t"
        assert await sql.rows(query) == [{"n": count}]


async def test_state(sql: SqlClient) -> None:
    rows = await sql.rows(
        "select key, value from state where service_name = 'Box' and service_key = 'k' ;"
    )
    assert {row["key"]: row["value"] for row in rows} == {"count": "3132", "raw": "ff00"}
    rows = await sql.rows("SELECT service_name, service_key, key, value FROM state WHERE key='raw'")
    assert rows == [{"service_name": "Box", "service_key": "k", "key": "raw", "value": "ff00"}]


UI = [
    (
        "SELECT s.id, s.status, st.retry_count FROM sys_invocation_status s"
        " LEFT JOIN sys_invocation_state st ON s.id = st.id"
        f" WHERE s.id = '{PAUSED}'",
        [{"id": PAUSED, "status": "paused", "retry_count": 3}],
    ),
    (
        "SELECT SUM(journal_size) AS n, MAX(journal_size) AS m FROM sys_invocation",
        [{"n": 12, "m": 9}],
    ),
    (
        "SELECT COALESCE(NULL, 'x') AS a, CASE WHEN 1 > 2 THEN 1 ELSE 2 END AS b",
        [{"a": "x", "b": 2}],
    ),
    ("SELECT now() - INTERVAL '1 hour' < now() AS a", [{"a": True}]),
    (
        "SELECT COUNT(1) AS n FROM sys_invocation WHERE created_at > now() - INTERVAL '3650 days'"
        " AND created_at < TIMESTAMP '2026-11-18T11:06:43Z'",
        [{"n": 2}],
    ),
    (
        "SELECT date_bin(INTERVAL '5 seconds', created_at) AS bin, COUNT(1) AS n"
        " FROM sys_invocation GROUP BY 1 ORDER BY 1",
        [{"bin": "2026-11-18T11:06:40Z", "n": 4}, {"bin": "2026-11-18T11:06:45Z", "n": 3}],
    ),
    (
        "SELECT COUNT(1) FILTER (WHERE status = 'completed') AS done,"
        " COUNT(DISTINCT target_service_name) AS services FROM sys_invocation",
        [{"done": 2, "services": 3}],
    ),
    (
        "SELECT DISTINCT target_service_name AS s FROM sys_invocation"
        " WHERE target_service_name NOT LIKE 'B%' ORDER BY 1",
        [{"s": "Echo"}, {"s": "Other"}],
    ),
    (
        "SELECT COUNT(1) AS n FROM sys_invocation WHERE journal_size BETWEEN 1 AND 2"
        " AND target ILIKE 'box/%'",
        [{"n": 1}],
    ),
    (
        "SELECT a.name AS a, b.name AS b FROM sys_service a CROSS JOIN sys_service b"
        " WHERE a.name < b.name",
        [{"a": "Box", "b": "Echo"}],
    ),
    (
        "WITH t AS (SELECT id, ROW_NUMBER() OVER (PARTITION BY target_service_name"
        " ORDER BY created_at DESC) AS n FROM sys_invocation)"
        " SELECT COUNT(1) AS n FROM t WHERE t.n = 1",
        [{"n": 3}],
    ),
    (
        "SELECT id FROM sys_invocation ORDER BY completed_at DESC NULLS LAST, created_at LIMIT 1",
        [{"id": COMPLETED}],
    ),
    (
        "SELECT id FROM sys_invocation"
        " ORDER BY idempotency_key ASC NULLS FIRST, created_at LIMIT 1",
        [{"id": FAILED}],
    ),
    (
        "SELECT FLOOR(1.7) AS a, ROUND(1.26, 1) AS b, CAST('7' AS INT) AS c, LOWER('A') AS d,"
        " SUBSTR('abc', 2) AS e, STARTS_WITH('abc', 'ab') AS f",
        [{"a": 1.0, "b": 1.3, "c": 7, "d": "a", "e": "bc", "f": True}],
    ),
    ('SELECT "id" AS "Id" FROM "sys_invocation" WHERE "status" = \'paused\'', [{"Id": PAUSED}]),
    (
        "SELECT ID FROM SYS_INVOCATION WHERE created_at >= '2026-11-18T11:06:47Z'",
        [{"id": SCHEDULED}],
    ),
    (
        f"SELECT raw_length AS n FROM sys_journal WHERE id = '{SUSPENDED}'"
        " AND entry_lite_json LIKE '%GetPromise%'",
        [{"n": 9}],
    ),
    (
        "SELECT id FROM sys_invocation WHERE status = 'paused' OR id IN"
        " (SELECT invocation_id FROM sys_keyed_service_status) ORDER BY created_at",
        [{"id": FAILED}, {"id": PAUSED}],
    ),
    (
        "SELECT (SELECT COUNT(1) FROM sys_inbox) AS a WHERE EXISTS (SELECT 1 FROM state)",
        [{"a": 1}],
    ),
]


@pytest.mark.parametrize(("query", "expected"), UI)
async def test_what_the_web_ui_uses(
    sql: SqlClient, query: str, expected: list[dict[str, object]]
) -> None:
    assert await sql.rows(query) == expected
