"""Spans of OpenTelemetry: attempts, steps, model calls, tool calls and agents.

    Service/handler                 an attempt; its parent is in the `traceparent` of the input
     └─ invoke_agent NAME           an agent, from its first step in this attempt on
         └─ step NAME               a step whose body runs
             └─ chat MODEL          the model call, or `execute_tool NAME`, that it was

What is taken from the journal happened in an earlier attempt and has its spans there: a replay adds
none. Without a provider of spans nothing of this runs; `tracing` says whether there is one. What
was said to models is not in spans: it is in the journal's details, see `sdk.detail`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any

from holdfast.domain.detail import ModelCall, ToolCall
from holdfast.domain.message import Input

if TYPE_CHECKING:
    from opentelemetry.context import Context as SpanContext
    from opentelemetry.trace import Span, Tracer
    from opentelemetry.util.types import AttributeValue

    from holdfast.domain.message import Entry, Start
    from holdfast.sdk.step import Step

_PROVIDER_VARIABLE = "OTEL_PYTHON_TRACER_PROVIDER"
_API = "opentelemetry.trace"
_SCOPE = "holdfast"

# The names of OpenTelemetry's conventions for generative AI, which still move: here and nowhere
# else.
_OPERATION = "gen_ai.operation.name"
_AGENT = "gen_ai.agent.name"
_CONVERSATION = "gen_ai.conversation.id"
_MODEL_FIELDS = {
    "operation": _OPERATION,
    "provider": "gen_ai.provider.name",
    "request_model": "gen_ai.request.model",
    "response_model": "gen_ai.response.model",
    "response_id": "gen_ai.response.id",
    "finish_reasons": "gen_ai.response.finish_reasons",
    "agent_name": _AGENT,
    "conversation_id": _CONVERSATION,
    "error": "error.type",
}
_USAGE_FIELDS = {
    "input": "gen_ai.usage.input_tokens",
    "output": "gen_ai.usage.output_tokens",
    "cached_input": "gen_ai.usage.cache_read.input_tokens",
    "reasoning": "gen_ai.usage.reasoning.output_tokens",
}
_TOOL_FIELDS = {
    "name": "gen_ai.tool.name",
    "call_id": "gen_ai.tool.call.id",
    "agent_name": _AGENT,
    "error": "error.type",
}
_INVOCATION = "holdfast.invocation.id"
_ATTEMPT = "holdfast.attempt"
_STEP = "holdfast.step.name"
_COST = "holdfast.cost.{}"


def tracing() -> Tracer | None:
    """Return what makes spans; None: nobody has set a provider, so none are made."""
    # Who has set one has imported the API, unless the environment names it.
    if _API not in sys.modules and _PROVIDER_VARIABLE not in os.environ:
        return None
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    return provider.get_tracer(_SCOPE)


class AttemptTrace:
    """The spans of one attempt."""

    def __init__(self, tracer: Tracer, span: Span, context: SpanContext) -> None:
        self._tracer = tracer
        self._span = span
        self._context = context
        self._steps: dict[int, Span] = {}
        """Of steps whose body runs, by completion id."""

    def enter(self, context: Context) -> None:
        """Make the attempt's span the current one of a context."""
        from opentelemetry import context as api

        context.run(api.attach, self._context)

    def begin_step(self, step: Step) -> None:
        """The body of a step is about to run; its span is current there."""
        from opentelemetry import context as api
        from opentelemetry import trace

        parent = step.context.run(_parent)
        span = self._tracer.start_span(
            f"step {step.name}", context=parent, attributes={_STEP: step.name}
        )
        self._steps[step.completion_id] = span
        step.context.run(api.attach, trace.set_span_in_context(span, parent))

    def end_step(self, step: Step, error: str = "") -> None:
        """The body of a step has ended.

        Args:
            step: If its body has said what it was, that gets a span of its own.
            error: Why it failed; empty when it did not.
        """
        span = self._steps.pop(step.completion_id, None)
        if span is None:
            return
        from opentelemetry import trace

        call = step.leaf.call
        if call is not None:
            self._add_call(call, trace.set_span_in_context(span), error)
        _end(span, error)

    def _add_call(self, call: ModelCall | ToolCall, parent: SpanContext, error: str) -> None:
        from opentelemetry.trace import SpanKind

        ended_ns = time.time_ns()
        if isinstance(call, ModelCall):
            name, kind = f"{call.operation} {call.request_model}", SpanKind.CLIENT
            attributes = _model_attributes(call)
        else:
            name, kind = f"execute_tool {call.name}", SpanKind.INTERNAL
            attributes = {_OPERATION: "execute_tool", **_fields(call, _TOOL_FIELDS)}
        span = self._tracer.start_span(
            name,
            context=parent,
            kind=kind,
            attributes=attributes,
            start_time=ended_ns - (call.latency_ms or 0) * 1_000_000,
        )
        _end(span, call.error or error, ended_ns)

    def end(self, error: str) -> None:
        """The attempt is over.

        Args:
            error: Why it failed; empty when it did not.
        """
        for span in self._steps.values():
            _end(span, "stopped")
        self._steps.clear()
        _end(self._span, error)


def begin_attempt(target: str, start: Start, entries: Sequence[Entry]) -> AttemptTrace | None:
    """Begin the span of an attempt; None: spans are not made.

    Args:
        target: `Service/handler`.
        start: Of the attempt.
        entries: The journal; the first is the input.
    """
    tracer = tracing()
    if tracer is None:
        return None
    from opentelemetry import propagate, trace
    from opentelemetry.context import Context as EmptyContext

    first = entries[0] if entries else None
    headers = dict(first.headers) if isinstance(first, Input) else {}
    # Not the current one: that is of whoever made the attempt, if it runs in the server's process.
    parent = propagate.extract({k.lower(): v for k, v in headers.items()}, EmptyContext())
    span = tracer.start_span(
        target,
        context=parent,
        kind=trace.SpanKind.SERVER,
        attributes={_INVOCATION: start.invocation_id, _ATTEMPT: start.attempt},
    )
    return AttemptTrace(tracer, span, trace.set_span_in_context(span, parent))


def with_trace(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return headers of a call with the place of the running code in its trace."""
    if tracing() is None:
        return headers
    from opentelemetry import propagate

    carrier: dict[str, str] = {}
    propagate.inject(carrier, _parent())
    given = {name.lower() for name, _ in headers}
    return (*headers, *(pair for pair in carrier.items() if pair[0] not in given))


# -- agents ----------------------------------------------------------------------------------------


class _Agent:
    """An agent that is entered; its span begins with the first thing that needs it."""

    def __init__(self, tracer: Tracer, name: str, conversation_id: str) -> None:
        from opentelemetry import trace

        self._tracer = tracer
        self._entered = trace.get_current_span()
        self._name = name
        self._conversation_id = conversation_id
        self._outer = _parent_maker()
        self._context: SpanContext | None = None
        self.span: Span | None = None

    def context(self) -> SpanContext:
        """Return the place of the agent; its span begins now, if it has none."""
        from opentelemetry import trace

        if self._context is None:
            parent = self._outer()
            attributes = {_OPERATION: "invoke_agent", _AGENT: self._name}
            if self._conversation_id:
                attributes[_CONVERSATION] = self._conversation_id
            self.span = self._tracer.start_span(
                f"invoke_agent {self._name}", context=parent, attributes=attributes
            )
            self._context = trace.set_span_in_context(self.span, parent)
        return self._context

    def is_inside(self, span: Span) -> bool:
        """Whether somebody has made a span of their own within the agent."""
        return span is not self._entered


_agent: ContextVar[_Agent | None] = ContextVar("holdfast_agent_span", default=None)


@contextmanager
def agent_span(name: str, conversation_id: str = "") -> Generator[None]:
    """Enter an agent: steps and calls within are below a span `invoke_agent NAME`.

    A replay that runs nothing within makes no span.
    """
    tracer = tracing()
    if tracer is None:
        yield
        return
    agent = _Agent(tracer, name, conversation_id)
    token = _agent.set(agent)
    error = ""
    try:
        yield
    except Exception as failure:
        error = type(failure).__name__
        raise
    finally:
        _agent.reset(token)
        if agent.span is not None:
            _end(agent.span, error)


def _parent_maker() -> Any:
    """Return a function that returns the place of the running code, later."""
    from opentelemetry import context, trace

    agent, current = _agent.get(), context.get_current()
    if agent is None or agent.is_inside(trace.get_current_span()):
        return lambda: current
    return agent.context


def _parent() -> SpanContext:
    """Return the place of the running code in its trace."""
    parent: SpanContext = _parent_maker()()
    return parent


# -- attributes ------------------------------------------------------------------------------------


def _model_attributes(call: ModelCall) -> dict[str, AttributeValue]:
    attributes = {**_fields(call, _MODEL_FIELDS), **_fields(call.usage, _USAGE_FIELDS)}
    if call.cost is not None:
        attributes[_COST.format("amount")] = call.cost.amount
        attributes[_COST.format("currency")] = call.cost.currency
    return attributes


def _fields(values: object, names: dict[str, str]) -> dict[str, AttributeValue]:
    """Return those of the fields that say something, under their names in spans."""
    found = ((name, getattr(values, field)) for field, name in names.items())
    return {name: value for name, value in found if value not in (None, "", [])}


def _end(span: Span, error: str, ended_ns: int | None = None) -> None:
    if error:
        from opentelemetry.trace import Status, StatusCode

        span.set_status(Status(StatusCode.ERROR, error))
    span.end(ended_ns)
