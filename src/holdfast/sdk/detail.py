"""Saying what a step was: the model call or the tool call that it made.

The server keeps it beside the journal, with the whole prompt.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import msgspec

from holdfast.domain.detail import (
    Call,
    Cost,
    ModelCall,
    StepDetail,
    TokenUsage,
    ToolCall,
    omit,
    pack,
)
from holdfast.domain.errors import UsageError
from holdfast.sdk.branch import Leaf, place
from holdfast.sdk.price import cost_of

__all__ = [
    "Call",
    "Cost",
    "DetailPolicy",
    "ModelCall",
    "Redact",
    "TokenUsage",
    "ToolCall",
    "describe_step",
]

_logger = logging.getLogger(__name__)

CAPTURE_VARIABLE = "HOLDFAST_CAPTURE_PROMPTS"

Redact = Callable[[Call], Call]
"""Returns what may be kept of a call: `msgspec.structs.replace(call, messages=…)`."""


def describe_step(call: Call) -> None:
    """Say what the running step is: a model call or a tool call.

    Call it in the body of a step, in its coroutine, in tasks that it makes, or in its thread. It is
    recorded with the step's result; if the step fails, with the failure. The last one counts.
    A model call without a cost gets one, if `genai-prices` is installed and knows the model.

    Raises:
        UsageError: HF0610, not in the body of a step; HF0611, a part of it has no JSON,
            or a number is negative.
    """
    leaf = place.get()
    if not isinstance(leaf, Leaf):
        raise UsageError(
            "describe_step outside of the body of a step",
            code="HF0610",
            hint="Call it in the function that is given to ctx.run.",
        )
    if isinstance(call, ModelCall) and call.cost is None:
        call = msgspec.structs.replace(call, cost=cost_of(call))
    if leaf.details is not None:
        leaf.detail = leaf.details.packed(call, leaf.step_name)
    leaf.call = call


class DetailPolicy:
    """What an application lets out of the content of calls.

    Args:
        capture_prompts: Whether prompts, answers, arguments and results are kept; None asks
            HOLDFAST_CAPTURE_PROMPTS, which is `on` unless it is set.
        redact: Sees each call before it leaves, and returns what may be kept of it.

    Raises:
        UsageError: HF0612, HOLDFAST_CAPTURE_PROMPTS is neither `on` nor `off`.
    """

    def __init__(self, capture_prompts: bool | None, redact: Redact | None) -> None:
        self.capture_prompts = _is_on() if capture_prompts is None else capture_prompts
        self._redact = redact

    def packed(self, call: Call, step_name: str) -> StepDetail:
        """Return a call as it may leave.

        Raises:
            UsageError: HF0611, it cannot be recorded.
        """
        if not self.capture_prompts:
            return omit(call, "off")
        if self._redact is not None:
            try:
                call = self._redact(call)
            except Exception:
                # What should have been taken out is still in it.
                _logger.exception(
                    "redact has failed; the content of a call is not kept",
                    extra={"step": step_name},
                )
                return omit(call, "redaction")
        try:
            detail = pack(call, _encode)
            # As the server will read it, which may be in this process and does not read it then.
            _check(_encode_call(detail.call))
            return detail
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise UsageError(
                f"What step {step_name!r} says about its call cannot be recorded: {error}",
                code="HF0611",
                hint="Give messages, answer, settings, arguments and results as JSON values, and "
                "numbers of tokens and milliseconds that are not negative.",
            ) from error


def _is_on() -> bool:
    value = os.environ.get(CAPTURE_VARIABLE, "on")
    if value not in ("on", "off"):
        raise UsageError(
            f"{CAPTURE_VARIABLE} is {value!r}", code="HF0612", hint="Set it to on or off."
        )
    return value == "on"


def _encode_other(value: object) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"a value of type {type(value).__name__}")
    return dump(mode="json", exclude_none=True)


_encode_call = msgspec.msgpack.Encoder().encode
_check = msgspec.msgpack.Decoder(ModelCall | ToolCall).decode
# Sorted, so that one message has the same bytes whoever made its dict.
_encode = msgspec.json.Encoder(enc_hook=_encode_other, order="deterministic").encode
