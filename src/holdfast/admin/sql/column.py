"""What a table is: its columns, how to read it, and which conditions the store can check."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, NamedTuple, TypeVar

from holdfast.server.handle import KnownAttempt, ServerHandle
from holdfast.storage.scan import Comparison, Condition, Order

T = TypeVar("T")


class Kind(Enum):
    """Type of a column, and how documents call it."""

    TEXT = "text"
    BOOL = "boolean"
    U32 = "u32"
    U64 = "u64"
    BYTES = "binary"
    TIME = "timestamp"
    """Values are milliseconds since the epoch."""
    DURATION = "duration"
    """Values are milliseconds."""
    U32_LIST = "list of u32"
    TEXT_LIST = "list of text"


@dataclass(frozen=True)
class Column(Generic[T]):
    """A column."""

    name: str
    kind: Kind
    meaning: str
    value: Callable[[T], object]
    """From a row of the table."""
    is_nullable: bool = True


class Test(Enum):
    """How a query compares a column with constants."""

    IN = "IN"
    NOT_IN = "NOT IN"
    AT_LEAST = ">="
    BELOW = "<"
    PREFIX = "LIKE"
    """Begins with the value."""


Constant = str | int


class Narrowed(NamedTuple):
    """What a test says about stored columns."""

    conditions: tuple[Condition, ...] = ()
    is_exact: bool = False
    """Whether the conditions say all that the test says. If not, they let more rows pass."""


Narrow = Callable[[Test, tuple[Constant, ...]], Narrowed]
"""From a test of a column to conditions on stored columns."""


class Wanted(NamedTuple):
    """What a query needs of a table."""

    columns: frozenset[str]
    conditions: tuple[Condition, ...] = ()
    order: Order | None = None
    limit: int | None = None
    """How many rows are enough."""


class Reader(NamedTuple):
    """Where rows come from, and the moment that a query is about."""

    handle: ServerHandle
    now_ms: int
    attempts: Mapping[str, KnownAttempt]


@dataclass(frozen=True)
class Table(Generic[T]):
    """A table."""

    name: str
    meaning: str
    columns: tuple[Column[T], ...]
    read: Callable[[Reader, Wanted], AsyncGenerator[Sequence[T]]]
    narrow: Mapping[str, Narrow]
    """By column, for those whose tests the store can check, at least in part."""
    is_view: bool = False
    is_ordered: bool = False
    """Whether `read` can give rows in the order of `created_at`."""


AnyTable = Table[Any]


def narrow_same(column: str) -> Narrow:
    """Return how tests narrow a column that is stored as it is shown."""

    def narrow(test: Test, values: tuple[Constant, ...]) -> Narrowed:
        if test is Test.PREFIX:
            return Narrowed(_prefixed(column, str(values[0])), is_exact=True)
        return Narrowed((Condition(column, Comparison[test.name], values),), is_exact=True)

    return narrow


def _prefixed(column: str, prefix: str) -> tuple[Condition, ...]:
    conditions = [Condition(column, Comparison.AT_LEAST, (prefix,))]
    after = ord(prefix[-1]) + 1 if prefix else 0x110000
    after = 0xE000 if after == 0xD800 else after  # no text has surrogates
    if after < 0x110000:
        conditions.append(Condition(column, Comparison.BELOW, (prefix[:-1] + chr(after),)))
    return tuple(conditions)


async def no_rows(reader: Reader, wanted: Wanted) -> AsyncGenerator[Sequence[Any]]:
    """Read a table that is always empty."""
    pages: tuple[Sequence[Any], ...] = ()
    for page in pages:
        yield page
