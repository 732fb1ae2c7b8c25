"""The tables of model calls and tool calls."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import cast

import msgspec

from holdfast.admin.detail_view import decimal_of
from holdfast.admin.sql.column import Column, Kind, Reader, Table, Wanted, narrow_same
from holdfast.domain.detail import ModelCall, ToolCall
from holdfast.engine.row import StoredDetail
from holdfast.storage.scan import Comparison, Condition, Scan, Source

_json = msgspec.json.Encoder().encode


def _reading(
    kind: str,
) -> Callable[[Reader, Wanted], AsyncGenerator[Sequence[StoredDetail]]]:
    is_kind = Condition("kind", Comparison.IN, (kind,))

    async def read(reader: Reader, wanted: Wanted) -> AsyncGenerator[Sequence[StoredDetail]]:
        scan = Scan(Source.DETAIL, (is_kind, *wanted.conditions), limit=wanted.limit)
        async with aclosing(reader.handle.scan(scan)) as pages:
            async for page in pages:
                yield cast("list[StoredDetail]", page)

    return read


def _model(it: StoredDetail) -> ModelCall:
    assert isinstance(it.row.call, ModelCall)
    return it.row.call


def _tool(it: StoredDetail) -> ToolCall:
    assert isinstance(it.row.call, ToolCall)
    return it.row.call


def _cost_nano(it: StoredDetail) -> int | None:
    cost = _model(it).cost
    amount = None if cost is None else decimal_of(cost)
    # What a worker says may not fit.
    nano = None if amount is None else round(amount * 10**9)
    return nano if nano is not None and 0 <= nano < 2**63 else None


_COMMON: tuple[Column[StoredDetail], ...] = (
    Column("invocation_id", Kind.TEXT, "the invocation that made it", lambda it: it.invocation_id),
    Column("service", Kind.TEXT, "service of the invocation", lambda it: it.row.service),
    Column("completion_id", Kind.U32, "id of the step", lambda it: it.completion_id),
    Column("attempt", Kind.U32, "attempt of the invocation", lambda it: it.attempt),
    Column("at", Kind.TIME, "when it was recorded", lambda it: it.row.at_ms),
    Column(
        "is_failed", Kind.BOOL, "whether the step failed, to be tried again",
        lambda it: it.row.is_failed,
    ),
    Column(
        "is_copied", Kind.BOOL, "whether a restart took it over from the one that made it",
        lambda it: it.row.is_copied,
    ),
    Column(
        "omitted", Kind.TEXT, "why its content is not kept: `off`, `size`, `redaction`",
        lambda it: it.row.omitted or None,
    ),
)  # fmt: skip
_NARROW = {
    "invocation_id": narrow_same("id"),
    "service": narrow_same("service"),
}

MODEL_CALL = Table[StoredDetail](
    "holdfast_model_call",
    "Model calls, one row for each try of a step. Prompts are in the admin API.",
    (
        *_COMMON,
        Column("provider", Kind.TEXT, "such as `openai`", lambda it: _model(it).provider),
        Column("operation", Kind.TEXT, "`chat`, `embeddings`, …", lambda it: _model(it).operation),
        Column(
            "request_model", Kind.TEXT, "the model that was asked for",
            lambda it: _model(it).request_model,
        ),
        Column(
            "model", Kind.TEXT, "the model that answered, or the one that was asked for",
            lambda it: _model(it).response_model or _model(it).request_model,
        ),
        Column(
            "response_id", Kind.TEXT, "id of the answer", lambda it: _model(it).response_id or None
        ),
        Column("settings", Kind.TEXT, "what was sent besides the messages, as JSON",
            lambda it: _json(_model(it).settings).decode()),
        Column("input_tokens", Kind.U64, "tokens of the prompt",
            lambda it: _model(it).usage.input),
        Column("cached_input_tokens", Kind.U64, "of these, those from the provider's cache",
            lambda it: _model(it).usage.cached_input),
        Column("output_tokens", Kind.U64, "tokens of the answer",
            lambda it: _model(it).usage.output),
        Column("reasoning_tokens", Kind.U64, "of these, those that are not shown",
            lambda it: _model(it).usage.reasoning),
        Column("cost_nano", Kind.U64, "cost in billionths of the currency; null: not known",
            _cost_nano),
        Column("currency", Kind.TEXT, "of the cost",
            lambda it: None if (cost := _model(it).cost) is None else cost.currency),
        Column("price_table", Kind.TEXT, "the table of prices that was used",
            lambda it: None if (cost := _model(it).cost) is None else cost.table or None),
        Column("finish_reasons", Kind.TEXT_LIST, "why the answer ended",
            lambda it: _model(it).finish_reasons),
        Column("time_to_first_token_ms", Kind.U64, "of streams, in milliseconds",
            lambda it: _model(it).time_to_first_token_ms),
        Column("latency_ms", Kind.U64, "to the end of the answer, in milliseconds",
            lambda it: _model(it).latency_ms),
        Column("attempts", Kind.U32, "requests that were made for it",
            lambda it: _model(it).attempts),
        Column("is_streamed", Kind.BOOL, "whether the answer was streamed",
            lambda it: _model(it).is_streamed),
        Column("error", Kind.TEXT, "why it failed", lambda it: _model(it).error or None),
        Column("agent", Kind.TEXT, "the agent that asked",
            lambda it: _model(it).agent_name or None),
        Column("conversation_id", Kind.TEXT, "the conversation",
            lambda it: _model(it).conversation_id or None),
        Column("message_count", Kind.U64, "messages of the prompt",
            lambda it: it.row.message_count),
    ),
    _reading("model"),
    _NARROW | {"model": narrow_same("name")},
)  # fmt: skip
TOOL_CALL = Table[StoredDetail](
    "holdfast_tool_call",
    "Tool calls, one row for each try of a step.",
    (
        *_COMMON,
        Column("name", Kind.TEXT, "the tool", lambda it: _tool(it).name),
        Column("call_id", Kind.TEXT, "as the model named it", lambda it: _tool(it).call_id or None),
        Column("error", Kind.TEXT, "why it failed", lambda it: _tool(it).error or None),
        Column("latency_ms", Kind.U64, "in milliseconds", lambda it: _tool(it).latency_ms),
        Column("agent", Kind.TEXT, "the agent that called",
            lambda it: _tool(it).agent_name or None),
    ),
    _reading("tool"),
    _NARROW | {"name": narrow_same("name")},
)  # fmt: skip
