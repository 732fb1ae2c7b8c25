"""Runs an agent durably, and all runs that it starts in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from agents import Agent, RunResult, RunResultStreaming
from agents.exceptions import AgentsException
from agents.run import AgentRunner, get_default_agent_runner, set_default_agent_runner

from holdfast.ai.agent import agent_scope
from holdfast.ai.guard import current

from ._active import ACTIVE, activate
from ._agents import AgentCopier, give_back_originals
from ._approval import Approvals
from ._config import check_run, durable_config
from ._ending import close_apart, ending
from ._stream import StreamedRun

if TYPE_CHECKING:
    from typing import Unpack

    from agents import RunConfig
    from agents.items import TResponseInputItem
    from agents.run import RunOptions

    from holdfast.ai.option import Options

    from ._config import Input

TContext = TypeVar("TContext")


async def run(
    starting_agent: Agent[TContext],
    input: str | list[TResponseInputItem],
    *,
    options: Options | None = None,
    approvals: Approvals | None = None,
    **settings: Unpack[RunOptions[TContext]],
) -> RunResult:
    """Run an agent durably. Call it inside a Holdfast handler, in place of `Runner.run`.

    Args:
        starting_agent: An agent of the OpenAI Agents SDK, as it is.
        input: The user's message, or a list of input items.
        options: Retries and the treatment of tools. `None` takes those of the `agent_scope` around
            the run.
        approvals: How people are asked about tools with `needs_approval`.
        **settings: The other arguments of `Runner.run`: `context`, `max_turns`, `hooks`,
            `run_config`, `error_handlers`, `session`, `previous_response_id`, ….

    Returns:
        The SDK's result. The agents in it are the ones you passed, not the copies that ran.

    Raises:
        UsageError: Outside of a handler; HF0605 and HF0606, for what cannot be made durable.
        TerminalError: The model refused a request, a step ran out of attempts, or the SDK ended
            the run (too many turns, a guardrail, wrong behaviour of the model). In the last case
            the error also is the SDK's own, so `except MaxTurnsExceeded` works.
    """
    return await _run(starting_agent, input, options, approvals or Approvals(), settings)


def run_streamed(
    starting_agent: Agent[TContext],
    input: str | list[TResponseInputItem],
    *,
    options: Options | None = None,
    approvals: Approvals | None = None,
    **settings: Unpack[RunOptions[TContext]],
) -> RunResultStreaming:
    """Run an agent durably and follow it, in place of `Runner.run_streamed`.

    The events of an answer come when it is recorded, the same at each replay. Readers of the
    durable stream of the invocation see its text at once: `Options.stream`.

    Args:
        starting_agent: As for `run`, and all other arguments, too.
        input: The user's message, or a list of input items.
        options: Retries and the treatment of tools.
        approvals: How people are asked.
        **settings: The other arguments of `Runner.run_streamed`.

    Returns:
        The SDK's result: go through its `stream_events()` in the handler. They raise what `run`
        raises.

    Raises:
        UsageError: As for `run`.
    """
    return _run_streamed(starting_agent, input, options, approvals or Approvals(), settings)


async def _run(
    agent: Agent[Any],
    input: Input,
    options: Options | None,
    approvals: Approvals,
    settings: RunOptions[Any],
) -> RunResult:
    run_config = _checked_config(input, settings)
    try:
        durable: RunOptions[Any] = {**settings, "run_config": run_config}
        runner = _nested_runner().outer
        try:
            with agent_scope(agent.name, options):
                active = ACTIVE.set(activate(approvals))
                try:
                    result = await runner.run(AgentCopier(approvals).copy(agent), input, **durable)
                finally:
                    ACTIVE.reset(active)
        except AgentsException as error:
            raise (end := ending(error)) from end.__cause__
        give_back_originals(result)
        return result
    finally:
        _close(settings, run_config)


def _run_streamed(
    agent: Agent[Any],
    input: Input,
    options: Options | None,
    approvals: Approvals,
    settings: RunOptions[Any],
) -> RunResultStreaming:
    run_config = _checked_config(input, settings)
    durable: RunOptions[Any] = {**settings, "run_config": run_config}
    runner = _nested_runner().outer
    streamed = StreamedRun(on_end=lambda: _close(settings, run_config))
    return streamed.begin(
        agent_scope(agent.name, options),
        approvals,
        lambda: runner.run_streamed(AgentCopier(approvals).copy(agent), input, **durable),
    )


def _checked_config(input: Input, settings: RunOptions[Any]) -> RunConfig:
    invocation_id = current().id
    check_run(input, settings)
    return durable_config(settings.get("run_config"), invocation_id)


def _close(settings: RunOptions[Any], made: RunConfig) -> None:
    if settings.get("run_config") is None:
        # The runner closes only providers that it made itself, and this one we made.
        close_apart(made.model_provider)


class _NestedRunner(AgentRunner):
    """The SDK's default runner while durable runs exist: it makes runs below them durable too.

    Agents as tools and guardrails start runs through the SDK's default runner, out of our reach.
    Outside of a durable run it hands everything to the runner that was there before.
    """

    def __init__(self, outer: AgentRunner) -> None:
        self.outer = outer

    async def run(
        self, starting_agent: Agent[Any], input: Input, **kwargs: Unpack[RunOptions[Any]]
    ) -> RunResult:
        active = ACTIVE.get()
        if active is None:
            return await self.outer.run(starting_agent, input, **kwargs)
        return await _run(starting_agent, input, None, active.approvals, kwargs)

    def run_sync(
        self, starting_agent: Agent[Any], input: Input, **kwargs: Unpack[RunOptions[Any]]
    ) -> RunResult:
        return self.outer.run_sync(starting_agent, input, **kwargs)

    def run_streamed(
        self, starting_agent: Agent[Any], input: Input, **kwargs: Unpack[RunOptions[Any]]
    ) -> RunResultStreaming:
        active = ACTIVE.get()
        if active is None:
            return self.outer.run_streamed(starting_agent, input, **kwargs)
        return _run_streamed(starting_agent, input, None, active.approvals, kwargs)


def _nested_runner() -> _NestedRunner:
    """Return our default runner, and install it if it is not there (any more)."""
    runner = get_default_agent_runner()
    if not isinstance(runner, _NestedRunner):
        runner = _NestedRunner(runner)
        set_default_agent_runner(runner)
    return runner
