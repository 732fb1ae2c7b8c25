from __future__ import annotations

import pytest

from holdfast.web.instant import iso_time


@pytest.mark.parametrize(
    ("at_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_769_860_800_500, "2026-01-31T12:00:00.500Z"),
        (2**63, "9999-12-31T23:59:59.999Z"),
        (10**30, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_prints_times(at_ms: int, text: str) -> None:
    assert iso_time(at_ms) == text
