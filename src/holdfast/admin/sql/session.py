"""One query: plan it over empty tables, read what it needs, run it over that.

DataFusion plans and runs; it is the engine that Restate's server has, so the dialect is the same.
It sees Arrow batches and no files: registering tables is done here only, and statements other than
queries are refused by its options.

Importing this needs datafusion and pyarrow.
"""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, NamedTuple

from holdfast.admin.sql.arrow import RecordBatch, Schema, batch_of, joined
from holdfast.admin.sql.column import AnyTable, Reader, Wanted
from holdfast.admin.sql.limit import (
    MEMORY_BYTES_MAX,
    QUERY_SIZE_MAX,
    QUERY_WORDS_MAX,
    READ_BYTES_MAX,
)
from holdfast.admin.sql.pushdown import wanted_of
from holdfast.admin.sql.table import TABLES
from holdfast.admin.sql.thread import in_thread
from holdfast.domain.errors import HoldfastError
from holdfast.web.problem import Refusal

_datafusion: Any = importlib.import_module("datafusion")

_QUOTED = re.compile(r"'(?:[^']|'')*'")
_WORD = re.compile(r'[\w.$"]+|[^\w\s.$"(),;]+')
_BASE = "_rows"
"""Ends the name of the table below a view. It is taken away once the view is made."""

_PAGES_JOINED = 32

Batches = dict[str, list[RecordBatch]]
"""Rows by table."""


class Result(NamedTuple):
    """A result that begins to arrive."""

    schema: Schema
    batches: AsyncGenerator[RecordBatch]


def check_size(query: str) -> None:
    """Refuse a query that the planner could not bear.

    Raises:
        Refusal: HF1408.
    """
    words = len(_WORD.findall(_QUOTED.sub("", query)))
    if len(query) > QUERY_SIZE_MAX or words > QUERY_WORDS_MAX:
        raise Refusal(
            400,
            "HF1408",
            f"The query has {len(query)} characters and {words} words and operators; at most"
            f" {QUERY_SIZE_MAX} and {QUERY_WORDS_MAX} are taken.",
            hint="Write lists as IN ('a', 'b', …), which count as one word, or ask in parts.",
        )


def plan(query: str) -> asyncio.Future[dict[str, Wanted]]:
    """Find out, in a thread, what a query needs of each table.

    Raises:
        Refusal: HF1401, it is no query over these tables; HF1403, a malformed id.
    """
    return in_thread(partial(_plan, query))


def _plan(query: str) -> dict[str, Wanted]:
    frame = _frame(_context({}), query)
    try:
        optimised = frame.optimized_logical_plan()
    except Exception as error:
        raise _invalid(error) from error
    wanted = wanted_of(optimised, {_stored_name(table): table for table in TABLES})
    return {
        table.name: wanted[_stored_name(table)] for table in TABLES if _stored_name(table) in wanted
    }


async def read(reader: Reader, wanted: Mapping[str, Wanted], rows_max: int) -> Batches:
    """Read rows of tables.

    Raises:
        Refusal: HF1405, they are too many or too large.
        StorageError: The store cannot be read.
    """
    batches: Batches = {}
    count = size = 0
    for table in TABLES:
        if table.name not in wanted:
            continue
        large: list[RecordBatch] = []
        small: list[RecordBatch] = []
        async with aclosing(_read_table(table, reader, wanted[table.name])) as found:
            async for batch in found:
                small.append(batch)
                count, size = count + int(batch.num_rows), size + int(batch.nbytes)
                if count > rows_max or size > READ_BYTES_MAX:
                    raise _too_much(table.name, count, size, rows_max)
                if len(small) == _PAGES_JOINED:
                    large += await asyncio.to_thread(joined, small)
                    small = []
        if small:
            large += await asyncio.to_thread(joined, small)
        batches[table.name] = large
    return batches


async def _read_table(
    table: AnyTable, reader: Reader, wanted: Wanted
) -> AsyncGenerator[RecordBatch]:
    count = 0
    async with aclosing(table.read(reader, wanted)) as pages:
        async for page in pages:
            if page:
                yield await asyncio.to_thread(batch_of, table, page, wanted.columns)
            count += len(page)
            if wanted.limit is not None and count >= wanted.limit:
                return


def begin(query: str, batches: Batches) -> asyncio.Future[Result]:
    """Begin, in a thread, to run a query over rows.

    Raises:
        Refusal: HF1401, as in `plan`.
        QueryFailed: HF1402. So does the iterator of the result.
    """
    return in_thread(partial(_begin, query, batches))


def _begin(query: str, batches: Batches) -> Result:
    frame = _frame(_context(batches), query)
    try:
        return Result(frame.schema(), _batches(frame.execute_stream()))
    except Exception as error:
        raise _failed(error) from error


async def _batches(stream: Any) -> AsyncGenerator[RecordBatch]:
    try:
        async for batch in stream:
            yield batch.to_pyarrow()
    except Exception as error:
        raise _failed(error) from error


class QueryFailed(HoldfastError):
    """The query is right, and running it failed."""

    code = "HF1402"


# -- datafusion ------------------------------------------------------------------------------------


def _context(batches: Batches) -> Any:
    """Return a session with all tables; those without rows are empty."""
    config = (
        _datafusion.SessionConfig()
        .with_information_schema(True)
        # Some tools write whole names: restate.public.sys_invocation.
        .with_default_catalog_and_schema("restate", "public")
        .with_target_partitions(1)
        # Not every reader of Arrow knows string views.
        .set("datafusion.sql_parser.map_string_types_to_utf8view", "false")
        .set("datafusion.optimizer.expand_views_at_output", "true")
    )
    runtime = (
        _datafusion.RuntimeEnvBuilder()
        .with_disk_manager_disabled()
        .with_greedy_memory_pool(MEMORY_BYTES_MAX)
    )
    context = _datafusion.SessionContext(config, runtime)
    for table in TABLES:
        name = _stored_name(table)
        rows = batches.get(table.name) or [batch_of(table, (), frozenset())]
        context.register_record_batches(name, [rows])
        if table.is_view:
            context.register_view(table.name, context.table(name))
            context.deregister_table(name)
    return context


def _stored_name(table: AnyTable) -> str:
    return table.name + _BASE if table.is_view else table.name


def _frame(context: Any, query: str) -> Any:
    options = (
        _datafusion.SQLOptions()
        .with_allow_ddl(False)
        .with_allow_dml(False)
        .with_allow_statements(False)
    )
    try:
        return context.sql_with_options(query, options)
    except Exception as error:
        raise _invalid(error) from error


def _invalid(error: Exception) -> Refusal:
    return Refusal(
        400,
        "HF1401",
        f"The query cannot be answered: {error}",
        hint="The tables and their columns are in docs/reference/sql.md, or ask: "
        "SELECT table_name, column_name, data_type FROM information_schema.columns",
    )


def _failed(error: Exception) -> QueryFailed:
    return QueryFailed(
        f"The query failed while it ran: {error}",
        hint="Sorts, groups and joins may hold 256 MB; conditions and a LIMIT help.",
    )


def _too_much(table: str, count: int, size: int, rows_max: int) -> Refusal:
    return Refusal(
        400,
        "HF1405",
        f"The query needs too much: after {count} rows and {size >> 20} MB it was still"
        f" reading {table}; at most {rows_max} rows and {READ_BYTES_MAX >> 20} MB are read.",
        hint="Add a condition that the store can check, such as id = '…' or status != 'completed';"
        " docs/reference/sql.md lists them.",
    )
