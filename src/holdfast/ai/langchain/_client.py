"""Copies of chat models whose provider's client does not retry.

Retries multiply: three tries of a step, each with three of a client, are nine requests. So those of
clients are off, and the step's policy decides. Clients are recognised by shape: what has
`max_retries` and `with_options` (OpenAI, Anthropic and those made like them), or a resource of one.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

T = TypeVar("T")

_LAZY = ("_async_client", "_client")
"""Cached properties of chat models; filled when they are first looked at."""


def without_client_retries(model: T) -> T:
    """Return a copy of a chat model that leaves retries to others; the model stays as it is."""
    original: Any = model
    copied: Any = original.model_copy()
    fields = cast("dict[str, Any]", copied.__dict__)
    if isinstance(getattr(copied, "max_retries", None), int):
        copied.max_retries = 0
    # Made for the old number of retries: they are made again when they are used.
    for name in _LAZY:
        fields.pop(name, None)
    for name, value in list(fields.items()):
        if (patient := _without_retries(value)) is not None:
            fields[name] = patient
    return cast("T", copied)


def _without_retries(value: Any) -> Any:
    """Return a client, or a resource of one, that does not retry; None for anything else."""
    if _is_client(value):
        return value.with_options(max_retries=0)
    client: Any = getattr(value, "_client", None)
    return type(value)(client.with_options(max_retries=0)) if _is_client(client) else None


def _is_client(value: Any) -> bool:
    has_count = isinstance(getattr(value, "max_retries", None), int)
    return has_count and callable(getattr(value, "with_options", None))
