from __future__ import annotations

import pytest

from holdfast.admin.duration import friendly


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [
        (0, "0s"),
        (1, "1ms"),
        (1500, "1s 500ms"),
        (60_000, "1m"),
        (600_000, "10m"),
        (90_061_001, "1d 1h 1m 1s 1ms"),
        (86_400_000, "1d"),
    ],
)
def test_prints_durations(duration_ms: int, text: str) -> None:
    assert friendly(duration_ms) == text
