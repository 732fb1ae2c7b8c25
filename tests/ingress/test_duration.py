from __future__ import annotations

import pytest

from holdfast.ingress.duration import DELAY_MS_MAX, parse_delay_ms
from holdfast.web.problem import Refusal

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("0", 0),
        ("1500", 1500),
        ("PT1.5S", 1500),
        ("PT0,5S", 500),
        ("pt1s", 1000),
        ("PT36H", 36 * HOUR),
        ("P1D", DAY),
        ("P1DT2H3M4S", DAY + 2 * HOUR + 3 * MINUTE + 4 * SECOND),
        ("P2W", 14 * DAY),
        ("PT0S", 0),
        ("1500ms", 1500),
        ("1.5s", 1500),
        ("2 s", 2000),
        ("60 sec", 60_000),
        ("5m", 5 * MINUTE),
        ("5 min", 5 * MINUTE),
        ("1 minute", MINUTE),
        ("2 hours", 2 * HOUR),
        ("1h 30m", 90 * MINUTE),
        ("1h30m", 90 * MINUTE),
        ("1h, 30m", 90 * MINUTE),
        ("1d", DAY),
        ("1 Week", 7 * DAY),
        ("  5s ", 5000),
        ("0.5ms", 1),
        ("1us", 1),
        ("1001 µs", 2),
        ("0.000000000000000000000000001s", 1),
        ("100.5d", 100 * DAY + 12 * HOUR),
        (f"{DELAY_MS_MAX}", DELAY_MS_MAX),
        ("36525d", DELAY_MS_MAX),
    ],
)
def test_reads_durations(text: str, expected_ms: int) -> None:
    assert parse_delay_ms(text) == expected_ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-1",
        "-5s",
        "+5",
        "1.5",
        "1e99",
        "1e3s",
        "NaN",
        "inf",
        "tomorrow",
        "5 parsecs",
        "5s5",
        "s",
        "1s,",
        "P",
        "PT",
        "P1DT",
        "P1",
        "PT5",
        "P1Y",
        "P1M",
        "PT-1S",
        "-PT1S",
        "PT1S ago",
        "1_000",
        "１０",
        "٣s",
        "1" * 65,
        "9" * 5000,
        "\x00",
        "1s\n2",
    ],
)
def test_refuses_what_is_no_duration(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_delay_ms(text)
    assert caught.value.status == 400
    assert caught.value.code == "HF1030"
    assert "is not a duration" in caught.value.message
    assert "1500ms" in caught.value.hint
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("text", ["36526d", "3155760000001", "P5300W", "9" * 60, "99999999999999h"])
def test_refuses_more_than_a_hundred_years(text: str) -> None:
    with pytest.raises(Refusal, match=r"the longest is 36525 days \(100 years\)") as caught:
        parse_delay_ms(text)
    assert (caught.value.status, caught.value.code) == (400, "HF1031")
