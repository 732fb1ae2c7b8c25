"""Recorded answers: the same bytes come back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.ai.http.recorded import CHUNK_SIZE_BYTES, RECORDED_SERDE, recorded
from holdfast.sdk.serde import SerdeError


@given(st.binary() | st.text().map(str.encode) | st.just(b'{"a": 1.50, "a": [2e3]}'))
def test_bytes_survive(content: bytes) -> None:
    answer = recorded(200, {"content-type": "x", "set-cookie": "secret"}, content)
    again = RECORDED_SERDE.decode(RECORDED_SERDE.encode(answer))
    assert again.content.strip() == content.strip()
    assert b"".join(again.chunks) == again.content
    assert again.headers == {"content-type": "x"}


def test_pieces_are_small() -> None:
    answer = recorded(200, {}, b"x" * (2 * CHUNK_SIZE_BYTES + 1))
    assert [len(chunk) for chunk in answer.chunks] == [CHUNK_SIZE_BYTES, CHUNK_SIZE_BYTES, 1]


def test_another_record_is_refused() -> None:
    with pytest.raises(SerdeError, match="no recorded answer"):
        RECORDED_SERDE.decode(b"[1]")
