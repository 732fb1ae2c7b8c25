from __future__ import annotations

from typing import Any

import msgspec
import pytest

from holdfast.admin.payload import view_payload


def printed(content: bytes, size_max: int = 1000) -> Any:
    return msgspec.json.decode(msgspec.json.encode(view_payload(content, size_max)))


@pytest.mark.parametrize(
    ("content", "encoding", "value"),
    [
        (b'{"a": [1, null]}', "json", {"a": [1, None]}),
        (b"null", "json", None),
        (b'"<script>"', "json", "<script>"),
        (b"", "text", ""),
        (b"NaN", "text", "NaN"),
        (b"{", "text", "{"),
        ("grüße\x00\x1b[31m".encode(), "text", "grüße\x00\x1b[31m"),
        (b"\xff\xfe", "base64", "//4="),
        (b'"\xff"', "base64", "Iv8i"),
        (b"\x80" * 3, "base64", "gICA"),
    ],
)
def test_shows_the_most_readable_form(content: bytes, encoding: str, value: object) -> None:
    assert printed(content) == {"encoding": encoding, "value": value, "size": len(content)}


def test_numbers_are_not_rounded() -> None:
    assert b"123456789012345678901234567890.10" in msgspec.json.encode(
        view_payload(b"123456789012345678901234567890.10")
    )


def test_deep_json_is_text() -> None:
    assert printed(b"[" * 5000, 10_000)["encoding"] == "text"


@pytest.mark.parametrize(
    ("content", "size_max", "encoding", "value"),
    [
        (b'"' + b"a" * 20 + b'"', 5, "text", '"aaaa'),
        ("ää".encode(), 3, "text", "ä"),
        ("a🦊".encode(), 4, "text", "a"),
        (b"\xff" * 20, 3, "base64", "////"),
        (b"1", 0, "text", ""),
    ],
)
def test_cuts_what_is_long(content: bytes, size_max: int, encoding: str, value: str) -> None:
    assert printed(content, size_max) == {
        "encoding": encoding,
        "value": value,
        "size": len(content),
        "is_truncated": True,
    }
