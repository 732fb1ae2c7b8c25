"""What a step leaves behind beside its result: the model call or the tool call that it was.

It is kept beside the journal, for people to look at, and is no part of it: no replay needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec

MESSAGES_MAX = 10_000
"""Messages of one prompt. The content of longer ones is not kept."""
CONTENT_BYTES_MAX = 16 * 1024 * 1024
"""Messages and answer of one call, as JSON. The content of larger ones is not kept."""


Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
"""A number that every reader of JSON and SQL can take."""


class TokenUsage(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """Tokens of one model call; None: the provider did not say."""

    input: Count | None = None
    """All of the prompt, cached ones included."""
    cached_input: Count | None = None
    """Of `input`: those that the provider read from its cache."""
    output: Count | None = None
    """All of the answer, reasoning included."""
    reasoning: Count | None = None
    """Of `output`: those that are not shown."""


class Cost(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What one model call cost."""

    amount: str
    """A decimal number without exponent, such as `0.00123`."""
    currency: str = "USD"
    table: str = ""
    """The table of prices that it was worked out with, and its version; empty: the provider said
    so itself."""
    table_date: str = ""
    """The day of that table, `YYYY-MM-DD`; empty: its version says which one it is."""


class ModelCall(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="kind",
    tag="model",
):
    """One call of a model. Nothing but JSON values in the fields that are `Any`."""

    provider: str
    """Such as `openai`, `anthropic`, `gcp.gemini`: the name that OpenTelemetry gives it."""
    request_model: str
    response_model: str = ""
    response_id: str = ""
    operation: str = "chat"
    """`chat`, `embeddings`, `generate_content`, `text_completion`."""
    settings: dict[str, Any] = {}
    """What was sent besides the messages: temperature, limits, response format, …"""
    messages: list[Any] = []
    """The whole prompt in order, system prompt and definitions of tools first, each with its role
    or kind. What did not change since the last call must be equal again: it is kept once."""
    answer: Any = None
    tool_calls: list[Any] = []
    """Those that the answer asks for."""
    usage: TokenUsage = TokenUsage()
    cost: Cost | None = None
    """None: not known, which is not nothing."""
    finish_reasons: list[str] = []
    time_to_first_token_ms: Count | None = None
    """Only of streams."""
    latency_ms: Count | None = None
    """From the request to the end of the answer, of the last attempt."""
    attempts: Count = 1
    """Requests that were made for this call, this one included."""
    is_streamed: bool = False
    error: str = ""
    """Why it failed; empty when it did not."""
    agent_name: str = ""
    conversation_id: str = ""


class ToolCall(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="kind",
    tag="tool",
):
    """One call of a tool. Nothing but JSON values in the fields that are `Any`."""

    name: str
    call_id: str = ""
    """As the model named it."""
    arguments: Any = None
    result: Any = None
    error: str = ""
    """Why it failed; empty when it did not."""
    latency_ms: Count | None = None
    agent_name: str = ""


Call = ModelCall | ToolCall


class StepDetail(msgspec.Struct, frozen=True, array_like=True):
    """A call as it travels and is stored: what it was, and its content apart."""

    call: Call
    """Without what is below."""
    messages: tuple[bytes, ...] = ()
    """JSON each. Of a tool: its arguments."""
    answer: bytes | None = None
    """JSON. Of a tool: its result."""
    omitted: str = ""
    """Why there is no content: `off`, `size`, `redaction`; empty: there is."""


class FailedStep(msgspec.Struct, frozen=True, array_like=True):
    """What a try of a step that failed leaves behind."""

    completion_id: int
    detail: StepDetail


def pack(call: Call, encode: Callable[[object], bytes]) -> StepDetail:
    """Take the content out of a call.

    Args:
        encode: Returns a value as JSON; equal values must have equal bytes.
    """
    if isinstance(call, ModelCall):
        messages = tuple(encode(message) for message in call.messages)
        answer = None if call.answer is None else encode(call.answer)
        # Through JSON, because these may hold what only the encoder knows.
        settings, tool_calls = msgspec.json.decode(encode([call.settings, call.tool_calls]))
        call = msgspec.structs.replace(call, settings=settings, tool_calls=tool_calls)
    else:
        messages = () if call.arguments is None else (encode(call.arguments),)
        answer = None if call.result is None else encode(call.result)
    return bounded(StepDetail(without_content(call), messages, answer))


def without_content(call: Call) -> Call:
    """Return a call without its messages and its answer."""
    if isinstance(call, ModelCall):
        return msgspec.structs.replace(call, messages=[], answer=None)
    return msgspec.structs.replace(call, arguments=None, result=None)


def omit(call: Call, why: str) -> StepDetail:
    """Return a call without anything that was said in it."""
    bare = without_content(call)
    if isinstance(bare, ModelCall):
        bare = msgspec.structs.replace(bare, settings={}, tool_calls=[])
    return StepDetail(bare, omitted=why)


def bounded(detail: StepDetail) -> StepDetail:
    """Return a detail without its content if that is over the limits."""
    size = sum(map(len, detail.messages)) + len(detail.answer or b"")
    if len(detail.messages) <= MESSAGES_MAX and size <= CONTENT_BYTES_MAX:
        return detail
    return StepDetail(detail.call, omitted="size")
