"""The tables of objects and workflows: their state, who holds a key, promises."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from holdfast.admin.sql.column import (
    Column,
    Kind,
    Reader,
    Table,
    Wanted,
    narrow_same,
)
from holdfast.admin.sql.invocation import PARTITION_KEY
from holdfast.domain.ids import key_partition_key
from holdfast.domain.message import Failure, Value
from holdfast.engine.row import LockRow, PromiseRow, StateRow
from holdfast.storage.scan import KeyedRow, Scan, Source


def as_text(content: bytes) -> str | None:
    """Return bytes as text, if they are UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _value(it: KeyedRow) -> bytes:
    assert isinstance(it.row, StateRow)
    return it.row.value


def _holder(it: KeyedRow) -> str | None:
    assert isinstance(it.row, LockRow)
    return it.row.holder


def _outcome(it: KeyedRow) -> Value | Failure | None:
    assert isinstance(it.row, PromiseRow)
    return it.row.outcome


def _success(it: KeyedRow) -> bytes | None:
    outcome = _outcome(it)
    return outcome.content if isinstance(outcome, Value) else None


def _success_text(it: KeyedRow) -> str | None:
    content = _success(it)
    return None if content is None else as_text(content)


def _failure(it: KeyedRow) -> str | None:
    outcome = _outcome(it)
    return f"[{outcome.code}] {outcome.message}" if isinstance(outcome, Failure) else None


def _reading(
    source: Source, is_there: Callable[[KeyedRow, int], bool]
) -> Callable[[Reader, Wanted], AsyncGenerator[Sequence[KeyedRow]]]:
    async def read(reader: Reader, wanted: Wanted) -> AsyncGenerator[Sequence[KeyedRow]]:
        async with aclosing(reader.handle.scan(Scan(source, wanted.conditions))) as pages:
            async for page in pages:
                yield [
                    it for it in page if isinstance(it, KeyedRow) and is_there(it, reader.now_ms)
                ]

    return read


def _is_live(it: KeyedRow, now_ms: int) -> bool:
    return isinstance(it.row, StateRow) and it.row.is_live(now_ms)


_PARTITION_KEY = Column[KeyedRow](
    "partition_key", Kind.U64, PARTITION_KEY, lambda it: key_partition_key(it.key)
)
_SCOPE = Column[KeyedRow]("scope", Kind.TEXT, "always null", lambda it: None)
_SERVICE = Column[KeyedRow]("service_name", Kind.TEXT, "service", lambda it: it.service)
_KEY = Column[KeyedRow](
    "service_key", Kind.TEXT, "key of the object or workflow", lambda it: it.key
)
_NARROW = {"service_name": narrow_same("service"), "service_key": narrow_same("key")}

STATE = Table[KeyedRow](
    "state",
    "State of objects and workflows, without entries that have expired.",
    (
        _PARTITION_KEY,
        _SCOPE,
        _SERVICE,
        _KEY,
        Column("key", Kind.TEXT, "name of the entry", lambda it: it.name),
        Column("key_length", Kind.U64, "bytes of its name", lambda it: len(it.name.encode())),
        Column("value_utf8", Kind.TEXT, "the value, if it is text", lambda it: as_text(_value(it))),
        Column("value", Kind.BYTES, "the value", _value),
        Column("value_length", Kind.U64, "its bytes", lambda it: len(_value(it))),
    ),
    _reading(Source.STATE, _is_live),
    _NARROW | {"key": narrow_same("name")},
)
HOLDER = Table[KeyedRow](
    "sys_keyed_service_status",
    "Who holds the key of an object.",
    (
        _PARTITION_KEY,
        _SERVICE,
        _KEY,
        Column("invocation_id", Kind.TEXT, "the invocation that holds it", _holder),
    ),
    _reading(Source.LOCK, lambda it, _: _holder(it) is not None),
    _NARROW,
)
PROMISE = Table[KeyedRow](
    "sys_promise",
    "Durable promises of workflows.",
    (
        _PARTITION_KEY,
        _SCOPE,
        _SERVICE,
        _KEY,
        Column("key", Kind.TEXT, "name of the promise", lambda it: it.name),
        Column(
            "completed", Kind.BOOL, "whether it has an outcome", lambda it: _outcome(it) is not None
        ),
        Column("completion_success_value", Kind.BYTES, "its value", _success),
        Column(
            "completion_success_value_utf8", Kind.TEXT, "its value, if it is text", _success_text
        ),
        Column("completion_failure", Kind.TEXT, "`[500] reason`", _failure),
    ),
    _reading(Source.PROMISE, lambda it, _: True),
    _NARROW | {"key": narrow_same("name")},
)
