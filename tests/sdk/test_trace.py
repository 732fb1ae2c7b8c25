"""Spans, as an exporter of OpenTelemetry sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import holdfast as hf
from holdfast.sdk.trace import agent_span, tracing, with_trace
from holdfast.testing import environment

agent = hf.Service("Agent")
helper = hf.Service("Helper")
tries: list[str] = []

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.fixture(autouse=True)
def no_tries() -> None:
    tries.clear()


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What keeps spans. The provider is global, and can be set once only."""
    made = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(made))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield made
    provider.shutdown()


def ask_model(turn: int) -> str:
    hf.describe_step(
        hf.ModelCall(
            provider="openai",
            request_model="gpt-5",
            response_model="gpt-5-2025",
            response_id="r1",
            messages=[{"role": "user", "content": "a secret"}],
            usage=hf.TokenUsage(input=10, cached_input=4, output=2),
            cost=hf.Cost(amount="0.01"),
            finish_reasons=["stop"],
            latency_ms=1500,
            conversation_id="talk",
        )
    )
    tries.append("model")
    return "answer"


async def use_tool() -> str:
    hf.describe_step(hf.ToolCall(name="search", call_id="c1", arguments={"q": "a secret"}))
    tries.append("tool")
    with trace.get_tracer("user").start_as_current_span("request"):
        await asyncio.sleep(0)
    return "found"


@helper.handler
async def help_(ctx: hf.Context) -> str:
    return "helped"


@agent.handler
async def run(ctx: hf.Context) -> str:
    with agent_span("planner", "talk"):
        await ctx.run("model", ask_model, 1)
        await ctx.run("tool", use_tool)
        with trace.get_tracer("user").start_as_current_span("own"):
            await ctx.run("plain", lambda: 1)
    await ctx.call(help_)
    if len(tries) == 2:
        tries.append("failed")
        raise ValueError("once")
    return "done"


@agent.handler
async def fail(ctx: hf.Context) -> None:
    with agent_span("planner"):
        await ctx.run("bad", _refuse, retry=hf.RetryPolicy(max_attempts=1))


def _refuse() -> None:
    raise RuntimeError("no")


APP = hf.App(agent, helper)


def by_name(exporter: InMemorySpanExporter) -> dict[str, list[ReadableSpan]]:
    found: dict[str, list[ReadableSpan]] = {}
    for span in exporter.get_finished_spans():
        found.setdefault(span.name, []).append(span)
    return found


def parent_of(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


async def test_spans_of_live_work(exporter: InMemorySpanExporter) -> None:
    async with environment(APP) as env:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        assert await env.client.call(run, headers=headers) == "done"
    spans = by_name(exporter)
    # The second attempt replays: it has a span, and nothing in it.
    assert {name: len(found) for name, found in spans.items()} == {
        "Agent/run": 2,
        "invoke_agent planner": 1,
        "step model": 1,
        "chat gpt-5": 1,
        "step tool": 1,
        "execute_tool search": 1,
        "request": 1,
        "own": 2,
        "step plain": 1,
        "Helper/help_": 1,
    }
    assert {span.context.trace_id for found in spans.values() for span in found} == {int(TRACE, 16)}
    first, second = sorted(spans["Agent/run"], key=lambda span: span.start_time or 0)
    (planner,) = spans["invoke_agent planner"]
    (model,), (tool,) = spans["step model"], spans["step tool"]
    assert parent_of(first) == parent_of(second) == int(PARENT, 16)
    assert parent_of(planner) == id_of(first)
    assert parent_of(model) == parent_of(tool) == id_of(planner)
    assert parent_of(spans["chat gpt-5"][0]) == id_of(model)
    assert parent_of(spans["execute_tool search"][0]) == id_of(tool)
    assert parent_of(spans["request"][0]) == id_of(tool)
    assert parent_of(spans["step plain"][0]) in {id_of(span) for span in spans["own"]}
    assert parent_of(spans["Helper/help_"][0]) == id_of(first)
    assert (first.status.status_code, first.status.description) == (
        StatusCode.ERROR,
        "ValueError: once",
    )
    assert second.status.status_code is StatusCode.UNSET
    assert tries == ["model", "tool", "failed"]


async def test_attributes(exporter: InMemorySpanExporter) -> None:
    async with environment(APP) as env:
        await env.client.call(run)
    spans = by_name(exporter)
    (model,) = spans["chat gpt-5"]
    assert dict(model.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.response.model": "gpt-5-2025",
        "gen_ai.response.id": "r1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.conversation.id": "talk",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.output_tokens": 2,
        "holdfast.cost.amount": "0.01",
        "holdfast.cost.currency": "USD",
    }
    assert model.kind is SpanKind.CLIENT
    assert (model.end_time or 0) - (model.start_time or 0) == 1_500_000_000
    assert dict(spans["execute_tool search"][0].attributes or {}) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "search",
        "gen_ai.tool.call.id": "c1",
    }
    assert dict(spans["invoke_agent planner"][0].attributes or {}) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "planner",
        "gen_ai.conversation.id": "talk",
    }
    attempt = min(spans["Agent/run"], key=lambda span: span.start_time or 0)
    assert attempt.kind is SpanKind.SERVER
    assert (attempt.attributes or {})["holdfast.attempt"] == 1
    assert "a secret" not in str([span.to_json() for found in spans.values() for span in found])


async def test_failures(exporter: InMemorySpanExporter) -> None:
    async with environment(APP) as env:
        with pytest.raises(hf.TerminalError):
            await env.client.call(fail)
    spans = by_name(exporter)
    for name, said in {
        "step bad": "RuntimeError: no",
        "invoke_agent planner": "TerminalError",
        "Agent/fail": "RuntimeError: no",
    }.items():
        (span,) = spans[name]
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, said)


async def test_without_a_provider_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    assert tracing() is None
    async with environment(APP) as env:
        assert await env.client.call(run) == "done"
    assert with_trace((("a", "b"),)) == (("a", "b"),)


async def test_a_crash_adds_spans_of_what_is_done_again_only(
    exporter: InMemorySpanExporter,
) -> None:
    async with environment(APP) as env:
        env.crash_at("after:step 2")
        await env.client.call(run)
        assert len(env.crashes) == 1
    counts = {name: len(found) for name, found in by_name(exporter).items()}
    assert counts["step model"] == counts["chat gpt-5"] == tries.count("model") == 1
    assert counts["step tool"] == tries.count("tool") == 1
    assert counts["Agent/run"] == 3
