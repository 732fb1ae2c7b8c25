"""Runs an agent durably, and all runs that it starts in turn."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar

from agents import (
    Agent,
    ModelRetrySettings,
    ModelSettings,
    RunConfig,
    RunResult,
    RunResultStreaming,
    RunState,
)
from agents.exceptions import (
    AgentsException,
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    ModelBehaviorError,
    OutputGuardrailTripwireTriggered,
    ToolInputGuardrailTripwireTriggered,
    ToolOutputGuardrailTripwireTriggered,
)
from agents.models.interface import Model, ModelProvider
from agents.run import AgentRunner, get_default_agent_runner, set_default_agent_runner

from holdfast.ai.agent import agent_scope, current_options

from ._agents import AgentCopier, give_back_originals
from ._model import STREAMING_REFUSED, DurableProvider, durable_model
from ._sdk import ACTIVE, HoldfastError, Options, TerminalError, UsageError, current, warn_once

if TYPE_CHECKING:
    from typing import Unpack

    from agents.items import TResponseInputItem
    from agents.run import RunOptions

    from holdfast import RetryPolicy

    _Input: TypeAlias = str | list[TResponseInputItem] | RunState[Any]

TContext = TypeVar("TContext")

_logger = logging.getLogger("holdfast.ai.openai_agents")

_closing: set[asyncio.Task[None]] = set()
"""Kept alive here: the loop holds tasks weakly."""

# Decided by what is recorded, so a new attempt would only arrive at the same end.
_FINAL_ERRORS = (
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    ModelBehaviorError,
    OutputGuardrailTripwireTriggered,
    ToolInputGuardrailTripwireTriggered,
    ToolOutputGuardrailTripwireTriggered,
)


async def run(
    starting_agent: Agent[TContext],
    input: str | list[TResponseInputItem],
    *,
    model_retry: RetryPolicy | None = None,
    tool_retry: RetryPolicy | None = None,
    scoped_tools: Collection[str] = (),
    **options: Unpack[RunOptions[TContext]],
) -> RunResult:
    """Run an agent durably. Call it inside a Holdfast handler, in place of `Runner.run`.

    Args:
        starting_agent: An agent of the OpenAI Agents SDK, as it is.
        input: The user's message, or a list of input items.
        model_retry: Retry policy of model calls; `None` takes the one that holds for the handler.
        tool_retry: Retry policy of tools. When it is used up, the model is told of the error.
            `None` tells the model at once, as without Holdfast.
        scoped_tools: Names of tools to treat as if they were marked with `scoped`.
        **options: The other arguments of `Runner.run`: `context`, `max_turns`, `hooks`,
            `run_config`, `error_handlers`, `previous_response_id`, ….

    Returns:
        The SDK's result. The agents in it are the ones you passed, not the copies that ran.

    Raises:
        UsageError: Outside of a handler, or for what cannot be made durable.
        TerminalError: The model refused a request, a step ran out of attempts, or the SDK ended
            the run (too many turns, a guardrail, wrong behaviour of the model). In the last case
            the error also is the SDK's own, so `except MaxTurnsExceeded` works.
    """
    chosen = Options(
        model_retry=model_retry, tool_retry=tool_retry, scoped_tools=frozenset(scoped_tools)
    )
    return await _run(starting_agent, input, chosen, options)


def run_streamed(*_: object, **__: object) -> NoReturn:
    """Refuse: streaming is not durable yet."""
    raise UsageError(STREAMING_REFUSED)


async def _run(
    agent: Agent[Any], input: _Input, chosen: Options, options: RunOptions[Any]
) -> RunResult:
    context = current()
    _check(input, options)
    given = options.get("run_config")
    config = _durable_config(given, context.id)
    try:
        durable = AgentCopier(chosen).copy(agent)
        durable_options: RunOptions[Any] = {**options, "run_config": config}
        runner = _nested_runner().outer
        active = ACTIVE.set(chosen)
        try:
            retries = dataclasses.replace(
                current_options(), model_retry=chosen.model_retry, tool_retry=chosen.tool_retry
            )
            with agent_scope(agent.name, retries):
                result = await runner.run(durable, input, **durable_options)
        except AgentsException as error:
            if error.run_data is not None:
                give_back_originals(error.run_data)
            ending = _ending(error)
            raise ending from ending.__cause__
        finally:
            ACTIVE.reset(active)
        give_back_originals(result)
        return result
    finally:
        if given is None:
            # The runner closes only providers that it made itself, and this one we made.
            _close_apart(config.model_provider)


def _close_apart(provider: ModelProvider) -> None:
    """Close a provider in a task that is not the handler's, and do not wait for it.

    The handler may be leaving memory, which must not be delayed, and its timers are durable:
    closing takes real time only, and may find nothing to close in a replay.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return  # The coroutine is thrown away after its loop, and the connections with it.
    # An empty context is outside of every handler.
    task = loop.create_task(_close(provider), context=contextvars.Context())
    _closing.add(task)
    task.add_done_callback(_closing.discard, context=contextvars.Context())


async def _close(provider: ModelProvider) -> None:
    try:
        await provider.aclose()
    except Exception:
        _logger.warning("failed to close a model provider", exc_info=True)


def _check(input: _Input, options: RunOptions[Any]) -> None:
    if isinstance(input, RunState):
        raise UsageError(
            "A RunState cannot be resumed in a durable run. A handler goes on where it stopped by "
            "itself; to wait for a person, await an awakeable in a tool marked with "
            "@durable_agents.scoped."
        )
    if options.get("session") is not None:
        raise UsageError(
            "A session is read and written outside of the journal, so a replay would see other "
            "messages. Keep `result.to_input_list()` in the state of a virtual object and pass it "
            "as input, with the new message at its end."
        )
    if options.get("conversation_id") is not None:
        warn_once(
            "conversation_id: a model call that is repeated after a crash adds its messages to the "
            "provider's conversation again"
        )


def _durable_config(given: RunConfig | dict[str, Any] | None, invocation_id: str) -> RunConfig:
    """Return the user's run configuration with durable models, and nothing else that calls out."""
    config = RunConfig(**given) if isinstance(given, dict) else given or RunConfig()
    if isinstance(config.model_provider, DurableProvider):
        return config
    if config.sandbox is not None:
        raise UsageError("`RunConfig.sandbox` cannot be used in a durable run.")
    settings = config.model_settings or ModelSettings()
    model = config.model
    return dataclasses.replace(
        config,
        model=durable_model(model) if isinstance(model, Model) else model,
        model_provider=DurableProvider(config.model_provider),
        # One knob for retries: this also turns those of the provider's own client off.
        model_settings=dataclasses.replace(settings, retry=ModelRetrySettings(max_retries=0)),
        tracing_disabled=config.tracing_disabled or not _configures_tracing(config),
        # The SDK derives the prompt cache key of requests from it, else from a random number.
        group_id=config.group_id or invocation_id,
    )


def _configures_tracing(config: RunConfig) -> bool:
    return (
        any(
            setting is not None
            for setting in (config.tracing, config.trace_id, config.group_id, config.trace_metadata)
        )
        or config.workflow_name != RunConfig.workflow_name
    )


def _ending(error: AgentsException) -> Exception:
    """Return what the handler shall see of an error that ended the run."""
    cause = error.__cause__
    while cause is not None:
        # The SDK wraps what comes out of tools; an error of ours must arrive as what it is.
        if isinstance(cause, HoldfastError | TerminalError):
            return cause
        cause = cause.__cause__
    return _terminal(error) if isinstance(error, _FINAL_ERRORS) else error


def _terminal(error: AgentsException) -> AgentsException:
    """Make an error of the SDK also a terminal one, for both kinds of `except`."""
    if not isinstance(error, TerminalError):
        kind = type(error)
        error.__class__ = type(
            kind.__name__, (kind, TerminalError), {"__module__": kind.__module__}
        )
        vars(error).update(message=str(error), code=500, metadata={})
    return error


class _NestedRunner(AgentRunner):
    """The SDK's default runner while durable runs exist: it makes runs below them durable too.

    Agents as tools and guardrails start runs through the SDK's default runner, out of our reach.
    Outside of a durable run it hands everything to the runner that was there before.
    """

    def __init__(self, outer: AgentRunner) -> None:
        self.outer = outer

    async def run(
        self, starting_agent: Agent[Any], input: _Input, **kwargs: Unpack[RunOptions[Any]]
    ) -> RunResult:
        options = ACTIVE.get()
        if options is None:
            return await self.outer.run(starting_agent, input, **kwargs)
        return await _run(starting_agent, input, options, kwargs)

    def run_sync(
        self, starting_agent: Agent[Any], input: _Input, **kwargs: Unpack[RunOptions[Any]]
    ) -> RunResult:
        return self.outer.run_sync(starting_agent, input, **kwargs)

    def run_streamed(
        self, starting_agent: Agent[Any], input: _Input, **kwargs: Unpack[RunOptions[Any]]
    ) -> RunResultStreaming:
        if ACTIVE.get() is not None:
            raise UsageError(STREAMING_REFUSED)
        return self.outer.run_streamed(starting_agent, input, **kwargs)


def _nested_runner() -> _NestedRunner:
    """Return our default runner, and install it if it is not there (any more)."""
    runner = get_default_agent_runner()
    if not isinstance(runner, _NestedRunner):
        runner = _NestedRunner(runner)
        set_default_agent_runner(runner)
    return runner
