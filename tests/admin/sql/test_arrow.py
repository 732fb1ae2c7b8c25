"""Values in JSON answers."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pytest

from holdfast.admin.sql.arrow import ArrowStream, JsonStream, joined


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (1_769_860_800_123, pa.timestamp("ms", "+00:00"), "2026-01-31T12:00:00.123Z"),
        (1_769_860_800_000, pa.timestamp("ms", "+00:00"), "2026-01-31T12:00:00Z"),
        (-1, pa.timestamp("ms", "+00:00"), "1969-12-31T23:59:59.999Z"),
        (1_769_860_800_000_001, pa.timestamp("us"), "2026-01-31T12:00:00.000001"),
        (1_769_860_800_123_456_789, pa.timestamp("ns", "UTC"), "2026-01-31T12:00:00.123456789Z"),
        (2**62, pa.timestamp("ms", "+00:00"), "9999-12-31T23:59:59Z"),
        (86_400_000, pa.duration("ms"), "PT86400S"),
        (0, pa.duration("ms"), "P0D"),
        (1500, pa.duration("ms"), "PT1.5S"),
        (-1500, pa.duration("ms"), "-PT1.5S"),
        (b"\xff\x00", pa.large_binary(), "ff00"),
        (2**64 - 1, pa.uint64(), 2**64 - 1),
        (True, pa.bool_(), True),
        (1.5, pa.float64(), 1.5),
        (float("nan"), pa.float64(), None),
        (float("inf"), pa.float64(), None),
        ("a\x00ä", pa.large_utf8(), "a\x00ä"),
        ("view", pa.string_view(), "view"),
        ([1, 2], pa.list_(pa.uint32()), [1, 2]),
        ([b"\x01"], pa.list_(pa.binary()), ["01"]),
        ({"a": [b"\x01"]}, pa.struct([("a", pa.list_(pa.binary()))]), {"a": ["01"]}),
        (20_484, pa.date32(), "2026-01-31"),
        (None, pa.large_utf8(), None),
    ],
)
def test_values(value: Any, kind: Any, expected: Any) -> None:
    batch = pa.record_batch([pa.array([value], kind)], names=["a"])
    stream = JsonStream(batch.schema)
    [row] = json.loads(stream.add(batch) + stream.end())["rows"]
    assert row == ({} if expected is None else {"a": expected})


def test_pieces() -> None:
    batch = pa.record_batch([pa.array([1, 2])], names=["a"])
    stream = JsonStream(batch.schema)
    pieces = [stream.add(batch), stream.add(batch.slice(0, 0)), stream.add(batch), stream.end()]
    assert b"".join(pieces) == b'{"rows":[{"a":1},{"a":2},{"a":1},{"a":2}]}'
    stream = ArrowStream(batch.schema)
    whole = stream.add(batch) + stream.add(batch) + stream.end()
    assert pa.ipc.open_stream(io.BytesIO(whole)).read_all().num_rows == 4
    assert pa.ipc.open_stream(io.BytesIO(ArrowStream(batch.schema).end())).schema == batch.schema


def test_joined_batches_have_the_same_rows() -> None:
    batches = [pa.record_batch([pa.array([n])], names=["a"]) for n in range(5)]
    [whole] = joined(batches)
    assert whole.column(0).to_pylist() == list(range(5))
