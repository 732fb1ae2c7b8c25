"""The options of services and handlers: the one place where an option is added."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypedDict, cast

from holdfast.domain.errors import UsageError
from holdfast.domain.target import DAY_MS
from holdfast.sdk.retry import Duration, RetryPolicy, milliseconds

_CODE = "HF0530"


class HandlerOptions(TypedDict, total=False):
    """Options of a handler, or of a service for all its handlers.

    What a handler does not say, or says with None, is that of its service, then the default.
    `documentation` and `metadata` describe the one thing they are given to and are not inherited.
    """

    private: bool | None
    """Only other handlers may call it, not the ingress. Default False."""
    retry: RetryPolicy | None
    """For failed attempts."""
    journal_retention: Duration | None
    """How long the journal of a completed invocation is kept. Default one day."""
    idempotency_retention: Duration | None
    """How long an idempotency key is remembered. Default one day."""
    inactivity_timeout: Duration | None
    """After this time without progress, a waiting attempt suspends. Default one minute."""
    abort_timeout: Duration | None
    """After this time, an attempt that should suspend and does not is cut. Default 10 minutes."""
    invocation_timeout: Duration | None
    """From its creation, or the time it was delayed to, to its end. At the limit it is cancelled,
    and killed `abort_timeout` later. Default: no limit."""
    concurrency: int | None
    """How many attempts a server runs at once; the others wait in order. Given to a service, it
    holds for all its handlers together that have no limit of their own. Default: no limit."""
    lazy_state: bool | None
    """Read state when it is asked for, not all of it when an attempt starts. Default False."""
    mcp: bool | None
    """Whether `holdfast mcp` offers it as a tool to agents. Default False."""
    metadata: Mapping[str, str] | None
    """For UIs and tools."""
    documentation: str | None
    """Markdown, for UIs. Default: the docstring of a handler; nothing for a service."""


class WorkflowOptions(HandlerOptions, total=False):
    """Options of a workflow."""

    workflow_retention: Duration | None
    """How long a finished workflow is kept: its result, state and promises. Default one day."""


_SETTABLE = {
    "private": "is_private",
    "journal_retention": "journal_retention_ms",
    "idempotency_retention": "idempotency_retention_ms",
    "inactivity_timeout": "inactivity_timeout_ms",
    "abort_timeout": "abort_timeout_ms",
}
"""Options that operators can set for a service, and their names in a manifest."""
_NOT_INHERITED = ("documentation", "metadata")
_DURATIONS = (
    "journal_retention",
    "idempotency_retention",
    "inactivity_timeout",
    "abort_timeout",
    "invocation_timeout",
    "workflow_retention",
)


def checked_options(
    owner: str, options: Mapping[str, Any], allowed: type[HandlerOptions] = HandlerOptions
) -> HandlerOptions:
    """Return the options that are set, without those that are None.

    Args:
        owner: Whose they are, for the error.
        allowed: Which there are.

    Raises:
        UsageError: HF0530, an unknown option, or a value that does not fit.
    """
    known = allowed.__annotations__.keys() | HandlerOptions.__annotations__.keys()
    found: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    for name, value in options.items():
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(sorted(known))}."
            raise UsageError(f"{owner} has no option {name!r}", code=_CODE, hint=hint)
        problem = None if value is None else _problem(name, value)
        if problem is not None:
            raise UsageError(f"{owner}: {name} {problem}, not {value!r}", code=_CODE)
    return cast("HandlerOptions", found)


def _problem(name: str, value: object) -> str | None:
    if name in _DURATIONS:
        return _duration_problem(name, value)
    match name:
        case "retry" if not isinstance(value, RetryPolicy):
            return "must be a RetryPolicy"
        case "concurrency" if not _is_count(value):
            return "must be a whole number, 1 or more"
        case "private" | "lazy_state" | "mcp" if not isinstance(value, bool):
            return "must be True or False"
        case "documentation" if not isinstance(value, str):
            return "must be a text"
        case "metadata" if not _is_text_map(value):
            return "must map texts to texts"
        case _:
            return None


def _duration_problem(name: str, value: object) -> str | None:
    try:
        length_ms = milliseconds(value, name)  # type: ignore[arg-type]  # Checked there.
    except UsageError:
        return "must be a timedelta or a number of seconds, zero or more"
    if name == "invocation_timeout" and length_ms == 0:
        return "must be longer than nothing"
    return None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_text_map(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(key, str) and isinstance(text, str)
        for key, text in cast("Mapping[object, object]", value).items()
    )


def inherited(own: HandlerOptions, service: HandlerOptions) -> HandlerOptions:
    """Return a handler's options, with those of its service where it says nothing."""
    passed_on = {name: value for name, value in service.items() if name not in _NOT_INHERITED}
    return cast("HandlerOptions", {**passed_on, **own})


def own_options(own: HandlerOptions) -> tuple[str, ...]:
    """Return what operators cannot set for the service of a handler that says it itself."""
    return tuple(name for option, name in _SETTABLE.items() if option in own)


def duration_ms(duration: Duration | None, default_ms: int = DAY_MS) -> int:
    """Return an option in milliseconds."""
    return default_ms if duration is None else milliseconds(duration, "an option")
