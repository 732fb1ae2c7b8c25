"""The tables: names, types and values."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from holdfast.admin.sql.absent import ABSENT
from holdfast.admin.sql.arrow import schema_of
from holdfast.admin.sql.table import TABLES
from holdfast.domain.message import Error
from tests.server.harness import ScriptedPort

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

RESTATE = {
    "state": """partition_key u64, scope s, service_name s, service_key s, key s, key_length u64,
        value_utf8 s, value bin, value_length u64""",
    "sys_deployment": """id s, ty s, endpoint s, created_at t, min_service_protocol_version u32,
        max_service_protocol_version u32, services [s]""",
    "sys_service": "name s, revision u64, public b, ty s, deployment_id s",
    "sys_inbox": """partition_key u64, service_name s, service_key s, id s, sequence_number u64,
        created_at t""",
    "sys_keyed_service_status": "partition_key u64, service_name s, service_key s, invocation_id s",
    "sys_promise": """partition_key u64, scope s, service_name s, service_key s, key s,
        completed b, completion_success_value bin, completion_success_value_utf8 s,
        completion_failure s""",
    "sys_journal": """partition_key u64, id s, index u32, entry_type s, name s, completed b,
        invoked_id s, invoked_target s, sleep_wakeup_at t, promise_name s, raw bin, raw_length u64,
        version u32, entry_json s, entry_lite_json s, appended_at t""",
    "sys_journal_events": """partition_key u64, id s, after_journal_entry_index u32, appended_at t,
        event_type s, event_json s""",
    "sys_invocation_state": """partition_key u64, id s, in_flight b, retry_count u64,
        last_start_at t, last_attempt_deployment_id s, last_attempt_server s, next_retry_at t,
        last_failure s, last_failure_error_code s, last_failure_related_command_index u64,
        last_failure_related_command_name s, last_failure_related_command_type s,
        last_failure_related_entry_index u64, last_failure_related_entry_name s,
        last_failure_related_entry_type s, last_awaiting_on_future_json s""",
    "sys_invocation_status": """partition_key u64, id s, vqueue_id s, status s!,
        completion_result s, completion_failure s, target s, target_service_name s,
        target_service_key s, target_handler_name s, target_service_ty s, scope s, limit_key s,
        idempotency_key s, invoked_by s, invoked_by_id s, invoked_by_subscription_id s,
        invoked_by_service_name s, invoked_by_target s, restarted_from s, pinned_deployment_id s,
        pinned_service_protocol_version u32, trace_id s, journal_size u32,
        journal_commands_size u32, created_at t, created_using_restate_version s, modified_at t,
        inboxed_at t, scheduled_at t, scheduled_start_at t, running_at t, completed_at t,
        completion_retention d, journal_retention d, suspended_waiting_for_completions [u32],
        suspended_waiting_for_signals [u32], suspended_waiting_future_json s""",
}
TYPES = {
    "s": "large_string",
    "s!": "large_string",
    "b": "bool",
    "u32": "uint32",
    "u64": "uint64",
    "bin": "large_binary",
    "t": "timestamp[ms, tz=+00:00]",
    "d": "duration[ms]",
    "[u32]": "list<item: uint32>",
    "[s]": "list<item: large_string>",
}


def columns_of(name: str) -> list[tuple[str, str]]:
    pairs = re.findall(r"(\w+) (\S+?)(?:,|$)", " ".join(RESTATE[name].split()))
    return [(column, TYPES[kind]) for column, kind in pairs]


@pytest.mark.parametrize("name", RESTATE)
def test_columns_are_those_of_restate(name: str) -> None:
    [table] = [table for table in TABLES if table.name == name]
    assert [(f.name, str(f.type)) for f in schema_of(table)] == columns_of(name)
    assert [f.name for f in schema_of(table) if not f.nullable] == (
        ["status"] if name == "sys_invocation_status" else []
    )


def test_columns_of_the_view() -> None:
    [table] = [table for table in TABLES if table.name == "sys_invocation"]
    expected = columns_of("sys_invocation_status")[1:]
    expected += columns_of("sys_invocation_state")[3:]
    assert [(f.name, str(f.type)) for f in schema_of(table)] == expected


async def test_tables_and_view_are_listed(sql: SqlClient) -> None:
    rows = await sql.rows(
        "SELECT table_name, table_type, table_schema FROM information_schema.tables"
        " WHERE table_schema = 'public' ORDER BY table_name"
    )
    assert [row["table_name"] for row in rows] == sorted(table.name for table in TABLES)
    assert [r["table_name"] for r in rows if r["table_type"] == "VIEW"] == ["sys_invocation"]
    assert {r["table_type"] for r in rows} == {"BASE TABLE", "VIEW"}


@pytest.mark.parametrize("name", [table.name for table in TABLES])
async def test_every_table_can_be_read(sql: SqlClient, running: str, name: str) -> None:
    by_json = await sql.ask(f"SELECT * FROM {name}")
    by_arrow = await sql.arrow(f"SELECT * FROM {name}")
    [table] = [table for table in TABLES if table.name == name]
    assert by_json.columns == by_arrow.schema.names == [column.name for column in table.columns]
    assert [f.type for f in by_arrow.schema] == [f.type for f in schema_of(table)]
    assert len(by_json.rows) == by_arrow.num_rows
    assert bool(by_json.rows) == (table not in ABSENT)


async def one(sql: SqlClient, table: str, id_: str) -> dict[str, object]:
    [row] = await sql.rows(f"SELECT * FROM {table} WHERE id = '{id_}'")
    return row


async def test_a_completed_invocation(sql: SqlClient) -> None:
    row = await one(sql, "sys_invocation", COMPLETED)
    assert row == {
        "id": COMPLETED,
        "status": "completed",
        "completion_result": "success",
        "target": "Echo/run",
        "target_service_name": "Echo",
        "target_handler_name": "run",
        "target_service_ty": "service",
        "idempotency_key": "once",
        "invoked_by": "ingress",
        "pinned_deployment_id": "dp_gone",
        "journal_size": 9,
        "created_at": "2026-11-18T11:06:41Z",
        "modified_at": "2026-11-18T11:06:41.500Z",
        "completed_at": "2026-11-18T11:06:49Z",
        "completion_retention": "PT86400S",
        "journal_retention": "PT86400S",
    }


async def test_who_made_it_and_how_it_failed(sql: SqlClient) -> None:
    row = await one(sql, "sys_invocation_status", FAILED)
    assert (row["completion_result"], row["completion_failure"]) == ("failure", "[409] killed")
    assert (row["target"], row["target_service_key"]) == ("Box/k/put", "k")
    assert row["target_service_ty"] == "virtual_object"
    assert (row["invoked_by"], row["invoked_by_id"]) == ("service", COMPLETED)
    assert (row["invoked_by_service_name"], row["invoked_by_target"]) == ("Echo", "Echo/run")
    row = await one(sql, "sys_invocation_status", SUSPENDED)
    assert (row["invoked_by"], row["restarted_from"]) == ("restart_as_new", COMPLETED)
    assert "invoked_by_id" not in row
    assert row["suspended_waiting_for_completions"] == [2, 3]
    assert row["suspended_waiting_for_signals"] == [17]
    assert json.loads(str(row["suspended_waiting_future_json"])) == {
        "Unknown": [
            {"Single": {"CompletionId": 2}},
            {"Single": {"CompletionId": 3}},
            {"Single": {"SignalIndex": 17}},
            {"Single": {"SignalName": "go"}},
        ]
    }


async def test_statuses(sql: SqlClient, running: str) -> None:
    query = "SELECT id, status FROM {} ORDER BY created_at"
    stored = {r["id"]: r["status"] for r in await sql.rows(query.format("sys_invocation_status"))}
    assert stored == {
        COMPLETED: "completed",
        FAILED: "completed",
        SUSPENDED: "suspended",
        PAUSED: "paused",
        BACKING_OFF: "invoked",
        PENDING: "inboxed",
        SCHEDULED: "scheduled",
        running: "invoked",
    }
    shown = {r["id"]: r["status"] for r in await sql.rows(query.format("sys_invocation"))}
    now = {BACKING_OFF: "backing-off", PENDING: "pending", running: "running"}
    assert shown == stored | now
    for status in ("pending", "scheduled", "running", "backing-off", "ready", "completed"):
        found = await sql.rows(f"SELECT id FROM sys_invocation WHERE status = '{status}'")
        assert {r["id"] for r in found} == {id_ for id_, it in shown.items() if it == status}
        found = await sql.rows(f"SELECT id FROM sys_invocation WHERE status != '{status}'")
        assert {r["id"] for r in found} == {id_ for id_, it in shown.items() if it != status}


async def test_attempts(sql: SqlClient, running: str) -> None:
    rows = {row["id"]: row for row in await sql.rows("SELECT * FROM sys_invocation_state")}
    assert rows.keys() == {running, PAUSED, BACKING_OFF}
    live, tried = rows[running], rows[BACKING_OFF]
    # As on Restate's server, the attempt that runs counts.
    assert (live["in_flight"], live["retry_count"]) == (True, 1)
    assert live["last_attempt_deployment_id"].startswith("dp_1")
    assert live["last_start_at"] > "2026-01-01"
    assert (tried["in_flight"], tried["retry_count"]) == (False, 2)
    assert tried["next_retry_at"] == "2109-05-15T07:35:11.104Z"
    assert tried["last_failure"] == "[500 Internal] no stock\nline 1\nline 2"
    assert tried["last_failure_error_code"] == "RT0007"
    assert tried["last_failure_related_command_index"] == 1
    assert tried["last_failure_related_command_name"] == "ship"
    assert tried["last_failure_related_command_type"] == "Run"
    assert tried["last_attempt_deployment_id"] == "dp_gone"
    # Its last attempt was one of another process.
    assert "last_start_at" not in tried


async def test_the_last_attempt_is_known_while_the_next_one_waits(
    sql: SqlClient, port: ScriptedPort, running: str
) -> None:
    began = (await sql.rows(f"SELECT last_start_at FROM sys_invocation WHERE id = '{running}'"))[0]
    port.attempts[0].say(Error(500, "no luck", next_retry_delay_ms=60_000))
    query = (
        "SELECT status, retry_count, last_start_at, last_attempt_deployment_id FROM sys_invocation"
        f" WHERE id = '{running}'"
    )
    async with asyncio.timeout(10):
        while (row := (await sql.rows(query))[0])["status"] != "backing-off":
            await asyncio.sleep(0.001)
    assert row["retry_count"] == 1
    assert row["last_start_at"] == began["last_start_at"]
    assert row["last_attempt_deployment_id"].startswith("dp_1")


async def test_events(sql: SqlClient) -> None:
    rows = await sql.rows(
        f"SELECT event_type, event_json FROM sys_journal_events WHERE id = '{PAUSED}'"
    )
    assert [row["event_type"] for row in rows] == ["TransientError", "Paused"]
    failure, paused = (json.loads(row["event_json"]) for row in rows)
    assert failure == {
        "ty": "TransientError",
        "error_code": 500,
        "error_message": "no stock",
        "restate_doc_error_code": "RT0007",
        "error_stacktrace": "line 1\nline 2",
        "related_command_index": 1,
        "related_command_name": "ship",
        "related_command_type": "Run",
    }
    assert paused == {"ty": "Paused", "last_failure": {k: failure[k] for k in failure if k != "ty"}}


async def test_a_journal(sql: SqlClient) -> None:
    rows = await sql.rows(f"SELECT * FROM sys_journal WHERE id = '{COMPLETED}' ORDER BY index")
    assert [row["index"] for row in rows] == list(range(9))
    assert [row["entry_type"] for row in rows] == [
        "Command: Input",
        "Command: Sleep",
        "Command: Call",
        "Notification: Sleep",
        "Notification: CallInvocationId",
        "Notification: Call",
        "Command: Run",
        "Notification: Signal",
        "Command: Output",
    ]
    assert [row.get("completed") for row in rows if "Command" in row["entry_type"]] == [
        None, True, True, False, None,
    ]  # fmt: skip
    nap, call = rows[1], rows[2]
    assert (nap["name"], nap["sleep_wakeup_at"]) == ("nap", "2026-11-23T08:56:33.042Z")
    assert (call["invoked_id"], call["invoked_target"]) == (FAILED, "Box/k/put")
    assert {row["version"] for row in rows} == {2}
    assert rows[0]["appended_at"] == "2026-11-18T11:06:40Z"
    assert all(row["raw_length"] == len(row["raw"]) // 2 for row in rows)
    assert "secret" not in rows[0]["raw"]
    [waits] = await sql.rows(f"SELECT * FROM sys_journal WHERE id = '{SUSPENDED}'")
    assert (waits["promise_name"], waits["completed"]) == ("ready", False)


async def test_keys(sql: SqlClient) -> None:
    rows = await sql.rows("SELECT * FROM state ORDER BY service_key, key")
    assert [(r["service_key"], r["key"], r.get("value_utf8"), r["value"]) for r in rows] == [
        ("k", "count", "12", "3132"),
        ("k", "raw", None, "ff00"),
        ("l", "count", '"x"', "227822"),
    ]
    assert (rows[0]["key_length"], rows[0]["value_length"]) == (5, 2)
    holders = await sql.rows("SELECT * FROM sys_keyed_service_status")
    assert [(r["service_key"], r["invocation_id"]) for r in holders] == [("other", FAILED)]
    [waits] = await sql.rows("SELECT * FROM sys_inbox")
    assert (waits["id"], waits["service_key"], waits["sequence_number"]) == (PENDING, "other", 4)
    promises = {row["key"]: row for row in await sql.rows("SELECT * FROM sys_promise")}
    assert {name: row["completed"] for name, row in promises.items()} == {
        "ok": True, "no": True, "open": False,
    }  # fmt: skip
    assert promises["ok"]["completion_success_value_utf8"] == '"yes"'
    assert promises["ok"]["completion_success_value"] == b'"yes"'.hex()
    assert promises["no"]["completion_failure"] == "[500] never"


async def test_catalog(sql: SqlClient) -> None:
    [deployment] = await sql.rows("SELECT * FROM sys_deployment")
    assert deployment["services"] == ["Echo", "Box"]
    assert (deployment["ty"], deployment["min_service_protocol_version"]) == ("http", 5)
    services = await sql.rows("SELECT name, revision, public, ty FROM sys_service ORDER BY name")
    assert services == [
        {"name": "Box", "revision": 1, "public": True, "ty": "virtual_object"},
        {"name": "Echo", "revision": 1, "public": True, "ty": "service"},
    ]
