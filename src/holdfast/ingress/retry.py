"""The header `holdfast-retry`: the retry policy of one invocation, as JSON."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from holdfast.domain.retry import OnMaxAttempts, RetrySchedule
from holdfast.web.problem import Refusal

_DEFAULT = RetrySchedule()
_ON_MAX_ATTEMPTS = {"pause": OnMaxAttempts.PAUSE, "kill": OnMaxAttempts.KILL}

_Ms = Annotated[int, msgspec.Meta(ge=0, le=10**15)]


class _Policy(msgspec.Struct, forbid_unknown_fields=True):
    initial_interval_ms: _Ms = _DEFAULT.initial_interval_ms
    factor: Annotated[float, msgspec.Meta(ge=1, le=1e6)] = _DEFAULT.factor
    max_interval_ms: _Ms = _DEFAULT.max_interval_ms
    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=10**9)] | None = _DEFAULT.max_attempts
    max_duration_ms: _Ms | None = None
    on_max_attempts: Literal["pause", "kill"] = "pause"


_decode = msgspec.json.Decoder(_Policy).decode


def parse_retry(text: str) -> RetrySchedule:
    """Read the header.

    Raises:
        Refusal: HF0532, it is no policy; names the field.
    """
    try:
        policy = _decode(text)
    except msgspec.MsgspecError as error:
        raise Refusal(
            400,
            "HF0532",
            f"The header holdfast-retry is no retry policy: {error}.",
            hint='Send a JSON object such as {"max_attempts": 5, "on_max_attempts": "kill"}.',
        ) from error
    return RetrySchedule(
        policy.initial_interval_ms,
        policy.factor,
        policy.max_interval_ms,
        policy.max_attempts,
        _ON_MAX_ATTEMPTS[policy.on_max_attempts],
        policy.max_duration_ms,
    )
