"""What can be asked of a store across all its partitions: rows that meet simple conditions.

For people who look in, not for the engine: a scan sees what is durable when it begins, and two
scans may see different moments.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from holdfast.domain.message import Output
from holdfast.engine.row import (
    InvocationRow,
    JournalRow,
    LockRow,
    PromiseRow,
    StateRow,
    StoredDetail,
)

PAGE_ROWS = 250
"""Rows of a page: few enough that decoding one keeps nobody waiting."""


class Source(Enum):
    """What is scanned. Conditions may name the columns that are listed here."""

    INVOCATION = "invocation"
    """id, status, service, handler, key, created_at_ms → ScannedInvocation. A condition on `key`
    excludes those that have none."""
    JOURNAL = "journal"
    """id → JournalRow, the entries of one invocation together and in order"""
    LOCK = "lock"
    """service, key → KeyedRow with a LockRow; its name is empty"""
    STATE = "state"
    """service, key, name → KeyedRow with a StateRow, also of an entry that has expired"""
    PROMISE = "promise"
    """service, key, name → KeyedRow with a PromiseRow"""
    DETAIL = "detail"
    """id, service, kind, name, at_ms → StoredDetail; `kind` is `model` or `tool`, `name` its
    name"""


class Comparison(Enum):
    """How a column is compared. Texts are ordered by code point."""

    IN = "in"
    """Equal to one of the values."""
    NOT_IN = "not in"
    """Equal to none of them."""
    AT_LEAST = ">="
    BELOW = "<"


class Condition(NamedTuple):
    """A condition on a column; all conditions of a scan must hold."""

    column: str
    comparison: Comparison
    values: tuple[str | int, ...]
    """One for AT_LEAST and BELOW."""


class Order(Enum):
    """By creation time, details by that of their record; at the same time, by id, ascending."""

    OLDEST = "ASC"
    NEWEST = "DESC"


class Scan(NamedTuple):
    """A question."""

    source: Source
    conditions: tuple[Condition, ...] = ()
    order: Order | None = None
    """Only of invocations and details; None: any."""
    limit: int | None = None
    has_outputs: bool = False
    """Only of invocations: whether the outputs of failed ones are wanted, too."""


class ScannedInvocation(NamedTuple):
    """An invocation, and how it failed if that was asked for."""

    row: InvocationRow
    output: Output | None


class KeyedRow(NamedTuple):
    """A row of an object or workflow key."""

    service: str
    key: str
    name: str
    row: StateRow | LockRow | PromiseRow


Scanned = ScannedInvocation | JournalRow | KeyedRow | StoredDetail


def is_met(condition: Condition, value: str | int | None) -> bool:
    """Return whether a value meets a condition; what is not there meets none."""
    if value is None:
        return False
    match condition.comparison:
        case Comparison.IN:
            return value in condition.values
        case Comparison.NOT_IN:
            return value not in condition.values
        case Comparison.AT_LEAST:
            return value >= condition.values[0]  # type: ignore[operator]  # of the column's type
        case Comparison.BELOW:
            return value < condition.values[0]  # type: ignore[operator]  # of the column's type
