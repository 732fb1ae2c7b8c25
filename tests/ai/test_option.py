"""Options of tools: what is not said is taken from what holds for all."""

from __future__ import annotations

import pytest

import holdfast as hf
from holdfast.ai import Options, ToolOptions


def test_defaults() -> None:
    chosen = Options().for_tool("any")
    assert (chosen.mode, chosen.on_error, chosen.on_unknown) == ("step", "feed", "retry")
    assert chosen.retry is None
    assert Options().stream == "default"


def test_the_closest_word_counts() -> None:
    """Options for the tool, then what the tool says itself, then what holds for all tools."""
    policy = hf.RetryPolicy(max_attempts=2)
    options = Options(
        tool_retry=policy,
        on_tool_error="fail",
        tools={"pay": ToolOptions(on_error="stop")},
    )
    own = ToolOptions(mode="scoped", on_error="feed")
    pay = options.for_tool("pay", own)
    assert (pay.mode, pay.on_error, pay.retry) == ("scoped", "stop", policy)
    look = options.for_tool("look", own)
    assert (look.mode, look.on_error, look.retry) == ("scoped", "feed", policy)
    assert options.for_tool("look").on_error == "fail"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: ToolOptions(mode="thread"), "mode must be one of 'step', 'scoped', 'plain'"),
        (lambda: Options(on_tool_error="retry"), "on_error must be one of"),
        (lambda: Options(tool_mode="none"), "mode must be one of"),
        (lambda: ToolOptions(on_unknown="guess"), "on_unknown must be one of"),
        (lambda: Options(on_unknown="verify"), "needs a function"),
    ],
)
def test_wrong_values_are_refused(make: object, why: str) -> None:
    assert callable(make)
    with pytest.raises(hf.UsageError, match=why) as refused:
        make()
    assert refused.value.code == "HF0602"
