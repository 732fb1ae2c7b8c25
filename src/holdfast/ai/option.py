"""What users choose about model calls and tools. The names are the same in all integrations."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from holdfast.ai.budget import Budget
from holdfast.ai.limit import ProviderLimit
from holdfast.domain.errors import UsageError
from holdfast.domain.stream_name import STREAM_DEFAULT
from holdfast.sdk.retry import RetryPolicy

ToolMode: TypeAlias = Literal["step", "scoped", "plain"]
OnError: TypeAlias = Literal["feed", "fail", "stop"]
OnUnknown: TypeAlias = Literal["retry", "verify", "ask", "fail"]
Verify: TypeAlias = Callable[..., Awaitable[Any] | Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOptions:
    """How the calls of one tool run. `None` takes what holds for all tools.

    Raises:
        UsageError: HF0602, a value that does not exist, or `on_unknown="verify"` without `verify`.
    """

    mode: ToolMode | None = None
    """"step": the body is one durable step. "scoped": the body gets the durable context, and its
    own operations are recorded below it. "plain": not durable; it runs again at each replay."""
    retry: RetryPolicy | None = None
    """For failures of the body. Without a policy, the first failure counts."""
    on_error: OnError | None = None
    """What a final failure does. "feed": the framework hands it to the model in its own way.
    "fail": the agent run ends with it. "stop": the loop ends with `LoopStopped`."""
    on_unknown: OnUnknown | None = None
    """What happens when a call as a step began and its outcome was lost. "retry": it runs again.
    "verify": `verify` finds out. "ask": a person says. "fail": it fails."""
    verify: Verify | None = None
    """For `on_unknown="verify"`: called with the idempotency key of the call and its arguments;
    returns `hf.Happened(result)` or `hf.NotHappened()`."""

    def __post_init__(self) -> None:
        _check("mode", self.mode, ToolMode)
        _check("on_error", self.on_error, OnError)
        _check("on_unknown", self.on_unknown, OnUnknown)
        if self.on_unknown == "verify" and self.verify is None:
            raise UsageError(
                'on_unknown="verify" needs a function that finds out what happened',
                code="HF0602",
                hint="Give it as verify=.",
            )

    def over(self, other: ToolOptions) -> ToolOptions:
        """Return these options, with those of `other` where these say nothing."""
        names = (entry.name for entry in dataclasses.fields(self))
        chosen = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return dataclasses.replace(other, **chosen)


_NO_TOOLS: Mapping[str, ToolOptions] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user chose for an agent run. Runs below it inherit it.

    Raises:
        UsageError: HF0602, a value that does not exist.
    """

    model_retry: RetryPolicy | None = None
    """Retry policy of model calls; `None` takes the one that holds for the handler."""
    tool_retry: RetryPolicy | None = None
    """Retry policy of tools; `None`: the first failure of a tool counts."""
    tool_mode: ToolMode = "step"
    """See `ToolOptions.mode`."""
    on_tool_error: OnError = "feed"
    """See `ToolOptions.on_error`."""
    on_unknown: OnUnknown = "retry"
    """See `ToolOptions.on_unknown`."""
    verify: Verify | None = None
    """See `ToolOptions.verify`."""
    stream: str | None = STREAM_DEFAULT
    """The durable stream of the invocation that gets the text of streamed answers as it comes;
    `None`: none does."""
    limit: ProviderLimit | None = None
    """What the provider's key allows, shared by all workers. The app also serves `limit_keeper`."""
    budgets: tuple[Budget, ...] = ()
    """What model calls may use; all must have room. The app also serves `budget_keeper`."""
    tools: Mapping[str, ToolOptions] = field(default_factory=lambda: _NO_TOOLS)
    """Overrides, by name of the tool."""

    def __post_init__(self) -> None:
        self.for_tool("")

    def for_tool(self, name: str, own: ToolOptions | None = None) -> ToolOptions:
        """Return what holds for a tool, with every field chosen.

        Args:
            name: As the model knows it.
            own: What the tool itself says, for instance by a mark on its function. `tools` wins.
        """
        chosen = ToolOptions(
            mode=self.tool_mode,
            retry=self.tool_retry,
            on_error=self.on_tool_error,
            on_unknown=self.on_unknown,
            verify=self.verify,
        )
        if own is not None:
            chosen = own.over(chosen)
        override = self.tools.get(name)
        return chosen if override is None else override.over(chosen)


def _check(name: str, value: object, choice: Any) -> None:
    values = get_args(choice)
    if value is not None and value not in values:
        raise UsageError(
            f"{name} must be one of {', '.join(map(repr, values))}, not {value!r}", code="HF0602"
        )
