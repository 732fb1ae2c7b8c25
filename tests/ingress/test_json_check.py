from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.ingress.json_check import DEPTH_MAX, check_json, is_json
from holdfast.web.problem import Refusal

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b' {"a": [1, 2.5e3, "x"]}\n',
        '"grüße 🦊"'.encode(),
        rb'"\ud83e\udd8a"',
        b"9" * 10_000,
        b"1e999",
        b"[" * DEPTH_MAX + b"]" * DEPTH_MAX,
        b"[" + b"[]," * 1000 + b"[]]",
        b'["' + b"[" * 1000 + b'"]',
        b'["' + b"\\\\" * 3 + b'", "' + b'\\"[' * 500 + b'"]',
    ],
)
def test_accepts_json(body: bytes) -> None:
    check_json(body)


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (b'{"a": 1,\n "b": x}', "HF1022", "invalid character at line 2, column 7"),
        ('{"ä": x}'.encode(), "HF1022", "at line 1, column 7"),
        (b"{'a': 1}", "HF1022", "at line 1, column 2"),
        (b"[1,]", "HF1022", "trailing comma in array at line 1, column 4"),
        (b"[1, 2", "HF1022", "it ends too early at line 1, column 6"),
        (b"", "HF1022", "it ends too early at line 1, column 1"),
        (b"1 2", "HF1022", "nothing may follow the value at line 1, column 3"),
        (b"hello", "HF1022", "at line 1, column 1"),
        (b"\xef\xbb\xbf1", "HF1022", "at line 1, column 1"),
        (b"01", "HF1022", "invalid number"),
        (b"NaN", "HF1023", "NaN at line 1, column 1; JSON has no such number"),
        (b'{"a":\n\n Infinity}', "HF1023", "Infinity at line 3, column 2"),
        (b"[-Infinity]", "HF1023", "Infinity at line 1, column 3"),
        (b"[" * 129 + b"]" * 129, "HF1024", "more than 128 levels deep"),
        (b'{"a":' * 129 + b"1" + b"}" * 129, "HF1024", "more than 128 levels deep"),
        (b"[" * 100_000, "HF1024", "more than 128 levels deep"),
        (b"[" * 100_000 + b"]" * 100_000, "HF1024", "more than 128 levels deep"),
        (b'["\\\\",' + b"[" * 128 + b"]" * 129, "HF1024", "more than 128 levels deep"),
        (b'"a\xff"', "HF1025", "not UTF-8: bad byte 0xff at line 1, column 3"),
        (rb'"\ud800"', "HF1025", "half of a surrogate pair at line 1, column 2"),
        (rb'["x", "\ud800 "]', "HF1025", "half of a surrogate pair at line 1, column 8"),
        (rb'"\udc00"', "HF1025", "half of a surrogate pair"),
    ],
)
def test_refuses_with_the_place(body: bytes, code: str, text: str) -> None:
    with pytest.raises(Refusal) as caught:
        check_json(body)
    assert (caught.value.status, caught.value.code) == (400, code)
    assert text in caught.value.message
    assert caught.value.hint
    assert not is_json(body)


@given(JSON)
def test_agrees_with_json_on_what_is_well_formed(value: object) -> None:
    check_json(json.dumps(value).encode())


@given(st.binary(max_size=50))
def test_never_fails_otherwise(body: bytes) -> None:
    if is_json(body):
        json.loads(body)


@given(st.integers(0, 200), st.text(alphabet='[]{}"\\ a', max_size=300))
def test_finds_the_depth_whatever_strings_hold(depth: int, text: str) -> None:
    body = b"[" * depth + json.dumps(text).encode() + b"]" * depth
    assert is_json(body) == (depth <= DEPTH_MAX)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 2_000_000,
        b"[" + b"[]," * 700_000 + b"[]]",
        b'"' + b'\\"' * 1_000_000 + b'"',
        b"9" * 2_000_000,
        b'"' + b"\\u0041" * 300_000,
    ],
    ids=["open", "wide", "escapes", "digits", "cut"],
)
def test_takes_linear_time(body: bytes) -> None:
    began = time.perf_counter()
    is_json(body)
    # Two megabytes; anything quadratic would take minutes.
    assert time.perf_counter() - began < 2
