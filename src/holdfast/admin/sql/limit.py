"""Limits of queries."""

from __future__ import annotations

from typing import NamedTuple

QUERIES_MAX = 4
"""Queries that run at the same time."""

QUERY_SIZE_MAX = 128 * 1024
"""Characters of a query: room for a list of some thousand ids."""

QUERY_WORDS_MAX = 1_000
"""Words and operators outside of quotes. The planner recurses into what they make up, on a stack
that is not endless, and orders joins in a time that grows with their number's square."""

STACK_SIZE_BYTES = 64 * 1024 * 1024
"""Of the threads that plan."""

MEMORY_BYTES_MAX = 256 * 1024 * 1024
"""What sorts, groups and joins of one query may hold at once."""

READ_BYTES_MAX = 512 * 1024 * 1024
"""What the rows that one query reads may hold."""


class SqlLimits(NamedTuple):
    """Limits that an operator can choose."""

    rows_max: int = 1_000_000
    """Rows that one query may read."""
    timeout_ms: int = 30_000
    """From the request to the last row of its answer."""


SQL_LIMITS = SqlLimits()
"""Those that hold unless an operator chooses others."""
