from __future__ import annotations

import pytest

from holdfast.domain.retry import OnMaxAttempts, RetrySchedule
from holdfast.ingress.retry import parse_retry
from holdfast.web.problem import Refusal
from tests.ingress.fake import Client, FakeHandle


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", RetrySchedule()),
        ('{"max_attempts": null}', RetrySchedule(max_attempts=None)),
        (
            '{"initial_interval_ms":1,"factor":3,"max_interval_ms":4,"max_attempts":5,'
            '"on_max_attempts":"kill","max_duration_ms":6}',
            RetrySchedule(1, 3, 4, 5, OnMaxAttempts.KILL, 6),
        ),
    ],
)
def test_policies(text: str, expected: RetrySchedule) -> None:
    assert parse_retry(text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "truncated"),
        ("5", "Expected `object`"),
        ('{"max_attempts":0}', r"`int` >= 1 - at `\$\.max_attempts`"),
        ('{"factor":0.5}', r"\$\.factor"),
        ('{"initial_interval_ms":-1}', r"\$\.initial_interval_ms"),
        ('{"max_interval_ms":1e30}', r"\$\.max_interval_ms"),
        ('{"on_max_attempts":"give up"}', r"\$\.on_max_attempts"),
        ('{"attempts":1}', "unknown field `attempts`"),
        ('{"max_attempts":1', "truncated"),
        ("ü", "malformed"),
    ],
)
def test_what_is_no_policy_is_refused(text: str, problem: str) -> None:
    with pytest.raises(Refusal, match=problem) as caught:
        parse_retry(text)
    assert (caught.value.status, caught.value.code) == (400, "HF0532")


async def test_the_header_is_taken_and_not_shown_to_the_handler(
    client: Client, handle: FakeHandle
) -> None:
    header = ("holdfast-retry", '{"max_attempts":3}')
    await client.post_json("/Greeter/greet", b'"Ann"', header)
    await client.post_json("/Greeter/greet/send", b'"Ann"')
    first, second = handle.requests
    assert first.retry == RetrySchedule(max_attempts=3)
    assert second.retry is None
    assert "holdfast-retry" not in dict(first.headers)
    seen = await client.post_json("/Greeter/greet", b'"Ann"', ("holdfast-retry", "often"))
    assert (seen.status, seen.json["error_code"]) == (400, "HF0532")
