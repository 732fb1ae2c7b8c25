"""Model calls and tool calls as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import cast

import msgspec

from holdfast.admin.payload import view_payload
from holdfast.domain.detail import Cost, ModelCall, ToolCall
from holdfast.engine.row import StoredDetail
from holdfast.server.detail import Content
from holdfast.web.instant import iso_time

_RUN = "Command: Run"


def view_model_call(detail: StoredDetail) -> dict[str, object]:
    """Show a model call without what was said in it; null where it is not known."""
    row, call = detail.row, detail.row.call
    assert isinstance(call, ModelCall)
    usage = call.usage
    return {
        "invocation_id": detail.invocation_id,
        "service": row.service,
        "completion_id": detail.completion_id,
        "attempt": detail.attempt,
        "at": iso_time(row.at_ms),
        "is_failed": row.is_failed,
        "is_copied": row.is_copied,
        "provider": call.provider,
        "operation": call.operation,
        "request_model": call.request_model,
        "response_model": call.response_model or None,
        "response_id": call.response_id or None,
        "usage": {name: getattr(usage, name) for name in usage.__struct_fields__},
        "cost": None if call.cost is None else _view_cost(call.cost),
        "finish_reasons": call.finish_reasons,
        "time_to_first_token_ms": call.time_to_first_token_ms,
        "latency_ms": call.latency_ms,
        "attempts": call.attempts,
        "is_streamed": call.is_streamed,
        "error": call.error or None,
        "agent": call.agent_name or None,
        "conversation_id": call.conversation_id or None,
        "message_count": row.message_count,
        "omitted": row.omitted or None,
    }


def _view_cost(cost: Cost) -> dict[str, object]:
    return {
        "amount": cost.amount,
        "currency": cost.currency,
        "table": cost.table or None,
        "table_date": cost.table_date or None,
    }


def view_prompt(detail: StoredDetail, content: Content) -> dict[str, object]:
    """Show a model call with all that was said in it."""
    call = detail.row.call
    assert isinstance(call, ModelCall)
    answer = content.answer
    return {
        **view_model_call(detail),
        "settings": call.settings,
        "messages": [msgspec.Raw(message) for message in content.messages],
        "answer": None if answer is None else msgspec.Raw(answer),
        "tool_calls": call.tool_calls,
    }


def view_tool_call(detail: StoredDetail, content: Content, size_max: int) -> dict[str, object]:
    """Show a tool call.

    Args:
        content: Its arguments and its result.
        size_max: Bytes shown of each of both.
    """
    call = detail.row.call
    assert isinstance(call, ToolCall)
    arguments = content.messages[0] if content.messages else None
    result = content.answer
    return {
        "attempt": detail.attempt,
        "is_failed": detail.row.is_failed,
        "name": call.name,
        "call_id": call.call_id or None,
        "agent": call.agent_name or None,
        "latency_ms": call.latency_ms,
        "error": call.error or None,
        "omitted": detail.row.omitted or None,
        "arguments": None if arguments is None else view_payload(arguments, size_max),
        "result": None if result is None else view_payload(result, size_max),
    }


def view_totals(details: Iterable[StoredDetail]) -> dict[str, object]:
    """Add up the model calls of an invocation; not those that it has of the one it restarts."""
    calls = [
        each.row.call
        for each in details
        if isinstance(each.row.call, ModelCall) and not each.row.is_copied
    ]
    costs: dict[str, Decimal] = {}
    for call in calls:
        if call.cost is not None and (amount := decimal_of(call.cost)) is not None:
            costs[call.cost.currency] = costs.get(call.cost.currency, Decimal()) + amount
    return {
        "count": len(calls),
        "usage": {
            name: sum(getattr(call.usage, name) or 0 for call in calls)
            for name in ("input", "cached_input", "output", "reasoning")
        },
        "costs": [
            {"amount": f"{amount:f}", "currency": currency}
            for currency, amount in sorted(costs.items())
        ],
        "count_without_cost": sum(
            call.cost is None or decimal_of(call.cost) is None for call in calls
        ),
    }


def decimal_of(cost: Cost) -> Decimal | None:
    """Return an amount; None: what a worker said is no number."""
    try:
        amount = Decimal(cost.amount)
    except ArithmeticError:
        return None
    return amount if amount.is_finite() else None


def tool_calls_of(details: Iterable[StoredDetail]) -> list[StoredDetail]:
    """Return those that are tool calls."""
    return [each for each in details if isinstance(each.row.call, ToolCall)]


def add_calls(
    entries: Iterable[dict[str, object]],
    details: Sequence[StoredDetail],
    tool_contents: Sequence[Content],
    size_max: int,
) -> None:
    """Say in a shown journal which calls its steps were: `tool_calls`, `model_calls` of a Run.

    Args:
        entries: As shown.
        details: Of the invocation. Model calls are shown without their prompts.
        tool_contents: Of those that are tool calls.
        size_max: See `view_tool_call`.
    """
    contents = iter(tool_contents)
    runs = {entry.get("completion_id"): entry for entry in entries if entry["kind"] == _RUN}
    for detail in details:
        is_tool = isinstance(detail.row.call, ToolCall)
        shown = (
            view_tool_call(detail, next(contents), size_max) if is_tool else view_model_call(detail)
        )
        if (entry := runs.get(detail.completion_id)) is not None:
            calls = entry.setdefault("tool_calls" if is_tool else "model_calls", [])
            cast("list[dict[str, object]]", calls).append(shown)
