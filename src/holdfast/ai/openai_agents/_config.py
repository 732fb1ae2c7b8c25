"""What the SDK is told about a durable run, and what it must not be told."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeAlias

from agents import ModelRetrySettings, ModelSettings, RunConfig, RunState
from agents.models.interface import Model

from holdfast.ai.guard import warn_once
from holdfast.domain.errors import UsageError

from ._model import DurableProvider, durable_model
from ._session import HoldfastSession

if TYPE_CHECKING:
    from agents.items import TResponseInputItem
    from agents.run import RunOptions

    Input: TypeAlias = str | list[TResponseInputItem] | RunState[Any]


def check_run(input: Input, options: RunOptions[Any]) -> None:
    """Refuse what would not be durable.

    Raises:
        UsageError: HF0606.
    """
    if isinstance(input, RunState):
        raise UsageError(
            "A RunState cannot be resumed in a durable run",
            code="HF0606",
            hint="A handler goes on where it stopped by itself; tools with `needs_approval` wait "
            "for a person there.",
        )
    session = options.get("session")
    if session is not None and not isinstance(session, HoldfastSession):
        raise UsageError(
            f"A {type(session).__name__} is read and written outside of the journal, so a replay "
            "would see other messages",
            code="HF0606",
            hint="Use durable_agents.HoldfastSession() in a handler of a virtual object.",
        )
    if options.get("conversation_id") is not None:
        warn_once(
            "conversation_id: a model call that is repeated after a crash adds its messages to the "
            "provider's conversation again"
        )


def durable_config(given: RunConfig | dict[str, Any] | None, invocation_id: str) -> RunConfig:
    """Return the user's run configuration with durable models, and nothing else that calls out.

    Raises:
        UsageError: HF0606, it has a sandbox.
    """
    config = RunConfig(**given) if isinstance(given, dict) else given or RunConfig()
    if isinstance(config.model_provider, DurableProvider):
        return config
    if config.sandbox is not None:
        raise UsageError(
            "`RunConfig.sandbox` cannot be used in a durable run",
            code="HF0606",
            hint="Do the work of the sandbox in function tools.",
        )
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
