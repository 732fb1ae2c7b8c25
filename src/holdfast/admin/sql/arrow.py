"""Rows to Arrow, and results of queries to the two forms of an answer.

Importing this needs pyarrow, which has no types: whatever comes from it is `Any` here.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import msgspec

from holdfast.admin.sql.column import AnyTable, Kind

_pa: Any = importlib.import_module("pyarrow")
_encode = msgspec.json.Encoder().encode

Schema = Any
RecordBatch = Any

_TYPES: dict[Kind, Any] = {
    Kind.TEXT: _pa.large_utf8(),
    Kind.BOOL: _pa.bool_(),
    Kind.U32: _pa.uint32(),
    Kind.U64: _pa.uint64(),
    Kind.BYTES: _pa.large_binary(),
    Kind.TIME: _pa.timestamp("ms", "+00:00"),
    Kind.DURATION: _pa.duration("ms"),
    Kind.U32_LIST: _pa.list_(_pa.uint32()),
    Kind.TEXT_LIST: _pa.list_(_pa.large_utf8()),
}
_TIME_MAX = 2**63 - 1
_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# -- rows ------------------------------------------------------------------------------------------


def schema_of(table: AnyTable) -> Schema:
    """Return the schema of a table."""
    return _pa.schema(
        [_pa.field(it.name, _TYPES[it.kind], nullable=it.is_nullable) for it in table.columns]
    )


def batch_of(table: AnyTable, rows: Sequence[Any], wanted: frozenset[str]) -> RecordBatch:
    """Return rows of a table; columns that nobody wants are empty."""
    arrays: list[Any] = []
    for column in table.columns:
        kind = _TYPES[column.kind]
        if column.name not in wanted:
            blank = _pa.nulls(len(rows), kind) if column.is_nullable else _pa.repeat("", len(rows))
            arrays.append(blank.cast(kind))
            continue
        values = [column.value(row) for row in rows]
        if column.kind is Kind.TIME:
            # A handler may name any time, also one that has no place here.
            values = [v if v is None else min(cast("int", v), _TIME_MAX) for v in values]
        arrays.append(_pa.array(values, kind))
    return _pa.record_batch(arrays, schema=schema_of(table))


def joined(batches: Sequence[RecordBatch]) -> list[RecordBatch]:
    """Return the same rows in as few batches as can be: DataFusion is handed them one by one."""
    table = _pa.Table.from_batches(batches)
    return cast("list[RecordBatch]", table.combine_chunks().to_batches())


# -- Arrow -----------------------------------------------------------------------------------------


class ArrowStream:
    """Encodes a result as Arrow IPC stream, piece by piece."""

    def __init__(self, schema: Schema) -> None:
        self._sink = _Sink()
        self._writer = _pa.ipc.new_stream(_pa.PythonFile(self._sink, "w"), schema)

    def add(self, batch: RecordBatch) -> bytes:
        """Return the bytes of a batch, and of the schema before the first one."""
        self._writer.write_batch(batch)
        return self._sink.taken()

    def end(self) -> bytes:
        """Return the last bytes."""
        self._writer.close()
        return self._sink.taken()


class _Sink:
    """A file that is emptied as it is written. Its methods are those that pyarrow asks for."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def taken(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


# -- JSON ------------------------------------------------------------------------------------------


class JsonStream:
    """Encodes a result as `{"rows":[…]}`, piece by piece. Members that are null are left out."""

    def __init__(self, schema: Schema) -> None:
        self._names = [field.name for field in schema]
        self._head = b'{"rows":['

    def add(self, batch: RecordBatch) -> bytes:
        """Return the bytes of a batch."""
        columns = [_json_values(column) for column in batch.columns]
        rows = [
            _encode({n: v for n, v in zip(self._names, row, strict=True) if v is not None})
            for row in (zip(*columns, strict=True) if columns else ())
        ]
        if not rows:
            return b""
        head, self._head = self._head, b","
        return head + b",".join(rows)

    def end(self) -> bytes:
        """Return the last bytes."""
        return (b"" if self._head == b"," else self._head) + b"]}"


def _json_values(column: Any) -> list[Any]:
    kind = column.type
    types = _pa.types
    if types.is_timestamp(kind):
        scale, suffix = _UNITS[kind.unit], "Z" if kind.tz is not None else ""
        return _mapped(column.cast(_pa.int64()), lambda value: _time(value, scale) + suffix)
    if types.is_duration(kind):
        scale = _UNITS[kind.unit]
        return _mapped(column.cast(_pa.int64()), lambda value: _duration(value, scale))
    if types.is_nested(kind):
        return _mapped(column, _plain)
    if types.is_integer(kind) or types.is_boolean(kind) or types.is_large_string(kind):
        return cast("list[Any]", column.to_pylist())
    return _mapped(column, _plain)


def _mapped(column: Any, print_: Callable[[Any], Any]) -> list[Any]:
    return [None if value is None else print_(value) for value in column.to_pylist()]


def _plain(value: object) -> Any:
    """Return a value as JSON has it."""
    match value:
        case bytes():
            return value.hex()
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return float(value)
        case timedelta():
            return _duration(value // timedelta(microseconds=1), 1_000_000)
        case list():
            return [_plain(item) for item in cast("Sequence[object]", value)]
        case dict():
            return {str(k): _plain(v) for k, v in cast("Mapping[object, object]", value).items()}
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case str() | int() | None:
            return value
        case _:
            return str(value)


def _time(value: int, scale: int) -> str:
    """Print a time as ISO 8601 with 0, 3, 6 or 9 digits of a second, as many as it needs."""
    seconds, part = divmod(value, scale)
    try:
        shown = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
    except OverflowError:
        return "9999-12-31T23:59:59" if value > 0 else "0001-01-01T00:00:00"
    digits = f"{part * (1_000_000_000 // scale):09}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{shown}.{digits}" if digits else shown


def _duration(value: int, scale: int) -> str:
    """Print a duration as ISO 8601, in seconds: `PT86400S`; none at all is `P0D`."""
    if value == 0:
        return "P0D"
    seconds, part = divmod(abs(value), scale)
    digits = f"{part * (1_000_000_000 // scale):09}".rstrip("0")
    number = f"{seconds}.{digits}" if digits else str(seconds)
    return f"{'-' if value < 0 else ''}PT{number}S"
