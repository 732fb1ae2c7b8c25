"""What is read for a query: as little as it can be, and never too little."""

from __future__ import annotations

import random

import pytest

from holdfast.admin.sql.column import Reader, Wanted
from holdfast.admin.sql.session import begin, plan, read
from holdfast.admin.sql.table import TABLES
from holdfast.engine.row import Status
from holdfast.server.host import Host
from holdfast.storage.scan import Comparison, Condition, Order
from holdfast.web.problem import Refusal

from .conftest import COMPLETED, FAILED, PAUSED, SUSPENDED

IN, NOT_IN, AT_LEAST, BELOW = Comparison
LIVE = tuple(status for status in Status if status is not Status.COMPLETED)


async def conditions(where: str, table: str = "sys_invocation") -> list[Condition]:
    wanted = await plan(f"SELECT id FROM {table} WHERE {where}")
    return list(wanted[table].conditions)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (f"id = '{PAUSED}'", [Condition("id", IN, (PAUSED,))]),
        (f"'{PAUSED}' = id", [Condition("id", IN, (PAUSED,))]),
        (f"id = '{PAUSED}' OR id = '{FAILED}'", [Condition("id", IN, (PAUSED, FAILED))]),
        ("target_service_name IN ('a','b','c','d','e')",
         [Condition("service", IN, ("a", "b", "c", "d", "e"))]),
        ("target_service_key NOT IN ('a','b','c','d','e')",
         [Condition("key", NOT_IN, ("a", "b", "c", "d", "e"))]),
        ("target_handler_name != 'run'", [Condition("handler", NOT_IN, ("run",))]),
        ("target_service_key LIKE 'user-%'",
         [Condition("key", AT_LEAST, ("user-",)), Condition("key", BELOW, ("user.",))]),
        ("target_service_key LIKE 'user'", [Condition("key", IN, ("user",))]),
        ("target_service_key LIKE '%user'", []),
        ("target_service_key LIKE 'u%r%'", []),
        ("target_service_key LIKE 'u_%'", []),
        ("target_service_key ILIKE 'u%'", []),
        ("target_service_key NOT LIKE 'u%'", []),
        ("starts_with(target_service_key, 'u')",
         [Condition("key", AT_LEAST, ("u",)), Condition("key", BELOW, ("v",))]),
        ("target LIKE 'Echo/%'", [Condition("service", IN, ("Echo",))]),
        ("target = 'Box/k/put'", [Condition("service", IN, ("Box",))]),
        ("target LIKE 'Ech%'", []),
        ("created_at >= '2026-01-01T00:00:00Z'",
         [Condition("created_at_ms", AT_LEAST, (1_767_225_600_000,))]),
        ("created_at > '2026-01-01T00:00:00Z' AND created_at <= '2026-01-01T00:00:01Z'",
         [Condition("created_at_ms", AT_LEAST, (1_767_225_600_001,)),
          Condition("created_at_ms", BELOW, (1_767_225_601_001,))]),
        ("status != 'completed'", [Condition("status", IN, LIVE)]),
        ("status = 'ready'", [Condition("status", IN, (Status.RUNNING, Status.BACKING_OFF))]),
        ("status IN ('pending', 'nonsense')", [Condition("status", IN, (Status.PENDING,))]),
        ("created_at > arrow_cast(9223372036854775807, 'Timestamp(Millisecond, Some(\"+00:00\"))')",
         []),
        ("journal_size > 5", []),
        ("target_service_name = NULL", None),
        ("target_service_name = 'a' OR journal_size > 5", []),
        ("target_service_name = 'a' OR (target_service_name = 'b' AND journal_size > 5)",
         [Condition("service", IN, ("a", "b"))]),
    ],
)  # fmt: skip
async def test_conditions(where: str, expected: list[Condition] | None) -> None:
    if expected is None:
        assert await plan(f"SELECT id FROM sys_invocation WHERE {where}") == {}
    else:
        assert await conditions(where) == expected


async def wanted(query: str, table: str = "sys_invocation") -> Wanted:
    return (await plan(query))[table]


async def test_columns() -> None:
    assert (await wanted("SELECT COUNT(1) FROM sys_invocation")).columns == frozenset()
    query = "SELECT id FROM sys_invocation WHERE journal_size > 1"
    assert (await wanted(query)).columns == {"id", "journal_size"}


@pytest.mark.parametrize(
    ("query", "order", "limit"),
    [
        ("SELECT id FROM sys_invocation LIMIT 7", None, 7),
        ("SELECT id FROM sys_invocation LIMIT 7 OFFSET 2", None, 9),
        ("SELECT id FROM sys_invocation OFFSET 2", None, None),
        ("SELECT id FROM sys_invocation WHERE status = 'paused' LIMIT 7", None, 7),
        ("SELECT id FROM sys_invocation WHERE status = 'ready' LIMIT 7", None, None),
        ("SELECT id FROM sys_invocation WHERE journal_size = 1 LIMIT 7", None, None),
        ("SELECT id FROM sys_invocation WHERE target LIKE 'a/%' LIMIT 7", None, None),
        ("SELECT id FROM sys_invocation i ORDER BY i.created_at DESC, i.id LIMIT 7",
         Order.NEWEST, 7),
        ("SELECT id FROM sys_invocation ORDER BY created_at LIMIT 7 OFFSET 1", Order.OLDEST, 8),
        ("SELECT id FROM sys_invocation ORDER BY created_at DESC, id DESC LIMIT 7", None, None),
        ("SELECT id FROM sys_invocation ORDER BY id LIMIT 7", None, None),
        ("SELECT id FROM sys_invocation ORDER BY created_at", None, None),
        ("SELECT * FROM (SELECT id, completed_at AS created_at FROM sys_invocation)"
         " ORDER BY created_at LIMIT 7", None, None),
        ("SELECT DISTINCT target FROM sys_invocation LIMIT 7", None, None),
        ("SELECT COUNT(1) FROM sys_invocation LIMIT 1", None, None),
        ("SELECT * FROM (SELECT * FROM sys_invocation LIMIT 50) WHERE status = 'paused' LIMIT 3",
         None, 50),
        ("SELECT i.id FROM sys_invocation i JOIN sys_service s ON s.name = i.target LIMIT 7",
         None, None),
    ],
)  # fmt: skip
async def test_limits(query: str, order: Order | None, limit: int | None) -> None:
    found = await wanted(query)
    assert (found.order, found.limit) == (order, limit)


async def test_a_condition_above_a_limit_is_not_pushed_below_it() -> None:
    query = "SELECT * FROM (SELECT * FROM sys_invocation LIMIT 50) WHERE target_service_name = 'a'"
    assert (await wanted(query)).conditions == ()


async def test_tables_that_cannot_order_are_read_whole() -> None:
    query = "SELECT id FROM sys_deployment ORDER BY created_at LIMIT 1"
    assert (await wanted(query, "sys_deployment")).limit is None


async def test_a_condition_reaches_the_other_side_of_a_join() -> None:
    query = (
        "SELECT * FROM sys_invocation_status s LEFT JOIN sys_invocation_state t ON s.id = t.id"
        f" WHERE s.id = '{PAUSED}'"
    )
    found = await plan(query)
    for table in ("sys_invocation_status", "sys_invocation_state"):
        assert found[table].conditions == (Condition("id", IN, (PAUSED,)),)


async def test_a_table_that_is_read_twice() -> None:
    both = "SELECT id FROM sys_invocation WHERE {} UNION ALL SELECT id FROM sys_invocation WHERE {}"
    found = await wanted(both.format(f"id = '{PAUSED}'", f"id = '{FAILED}'"))
    [condition] = found.conditions
    assert condition.column == "id"
    assert set(condition.values) == {PAUSED, FAILED}
    found = await wanted(both.format(f"id = '{PAUSED}'", "status = 'paused'"))
    assert found.conditions == ()


async def test_a_subquery_inside_of_an_expression_is_read_whole() -> None:
    query = (
        "SELECT CASE WHEN id IN (SELECT id FROM sys_inbox) THEN 1 ELSE 2 END FROM sys_invocation"
    )
    found = await wanted(query, "sys_inbox")
    assert (len(found.columns), found.conditions, found.limit) == (6, (), None)


async def test_a_malformed_id() -> None:
    for where in ("id = 'x'", "id IN ('x', 'y', 'z', 'u', 'v')"):
        with pytest.raises(Refusal) as caught:
            await plan(f"SELECT id FROM sys_journal WHERE {where}")
        assert (caught.value.status, caught.value.code) == (500, "HF1403")
    assert await conditions("id != 'x'") == [Condition("id", NOT_IN, ("x",))]


class Writer:
    """Writes random queries over few values."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def leaf(self) -> str:
        pick = self.random.choice
        ids = f"'{pick([PAUSED, FAILED, SUSPENDED])}'"
        column = pick(["target_service_name", "target_service_key", "target_handler_name"])
        text = f"'{pick(['Echo', 'Box', 'k', 'other', 'run', 'o'])}'"
        status = f"'{pick(['completed', 'paused', 'ready', 'running', 'pending', 'invoked'])}'"
        second = self.random.randrange(40, 50)
        return pick(
            [
                f"id {pick(['=', '!='])} {ids}",
                f"id IN ({ids}, '{COMPLETED}')",
                f"{column} {pick(['=', '!=', '<', '<=', '>', '>='])} {text}",
                f"{column} {pick(['', 'NOT'])} LIKE '{pick(['E%', 'o%', '%t', 'Bo_', 'put'])}'",
                f"{column} IS NULL",
                f"status {pick(['=', '!='])} {status}",
                f"target {pick(['=', 'LIKE'])} '{pick(['Echo/%', 'Echo/run', 'Box/k%', 'O%'])}'",
                f"created_at {pick(['=', '<', '<=', '>', '>='])} '2026-11-18T11:06:{second}Z'",
                f"journal_size > {self.random.randrange(3)}",
                f"NOT (status = {status})",
            ]
        )

    def where(self, depth: int = 2) -> str:
        if depth == 0 or self.random.random() < 0.3:
            return self.leaf()
        operator = self.random.choice([" AND ", " OR "])
        return "(" + operator.join(self.where(depth - 1) for _ in range(2)) + ")"

    def query(self) -> str:
        table = self.random.choice(["sys_invocation", "sys_invocation_status"])
        order = self.random.choice(["created_at", "created_at DESC", "created_at DESC, id"])
        limit = self.random.choice(["", "LIMIT 3", "LIMIT 2 OFFSET 1"])
        return f"SELECT id, status FROM {table} WHERE {self.where()} ORDER BY {order} {limit}"


@pytest.mark.parametrize("seed", range(6))
async def test_less_is_read_and_the_answer_is_the_same(host: Host, running: str, seed: int) -> None:
    writer = Writer(seed)
    reader = Reader(host, host.now_ms(), host.known_attempts())
    whole = await read(
        reader,
        {
            table.name: Wanted(frozenset(column.name for column in table.columns))
            for table in TABLES
            if table.name.startswith("sys_invocation")
        },
        1000,
    )
    saved = 0
    for _ in range(25):
        query = writer.query()
        less = await read(reader, await plan(query), 1000)
        answers = [
            [row async for batch in (await begin(query, rows)).batches for row in batch.to_pylist()]
            for rows in (whole, less)
        ]
        assert answers[0] == answers[1], query
        saved += sum(batch.num_rows for batches in less.values() for batch in batches) < 8
    assert saved
