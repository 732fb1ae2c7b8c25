"""Times, spans and cleaned text."""

from __future__ import annotations

import pytest

from holdfast.cli.output import clean, span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 ms"),
        (0.0123, "12 ms"),
        (1.26, "1.3 s"),
        (60, "1 m"),
        (61, "1 m 1 s"),
        (3_600, "1 h"),
        (3_725, "1 h 2 m"),
        (86_400 * 3 + 3_600 * 4, "3 d 4 h"),
    ],
)
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain ä ✓", "plain ä ✓"),
        ("a\x1b[2Jb\r\n", "a\\x1b[2Jb\\x0d\\x0a"),
        ("left\u202eright", "left\\x202eright"),
        ({"a": "ä\n"}, '{"a": "ä\\n"}'),
        (None, "null"),
    ],
)
def test_clean(value: object, text: str) -> None:
    assert clean(value) == text
