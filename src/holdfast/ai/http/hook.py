"""One visible call that makes the model calls of all clients in this process durable."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

from holdfast.ai.http.aiohttp_hook import durable_request
from holdfast.ai.http.httpx_hook import durable_send, durable_send_sync
from holdfast.domain.errors import UsageError

_originals: list[tuple[Any, str, Any, Any]] = []
"""Class, method, what it was, and what we put there."""


def instrument() -> None:
    """Make the model calls of all HTTP clients in this process durable in handlers.

    It replaces the sending methods of `httpx`, `httpx2` and `aiohttp`, as far as they are
    installed: of clients that exist, too. Requests that are no model calls, and code outside of
    handlers, are not affected. Call it once, where the app is made; again it does nothing.

    Raises:
        UsageError: HF0600, none of them is installed.
    """
    if _originals:
        return
    for library in ("httpx2", "httpx"):
        if find_spec(library) is not None:
            module: Any = importlib.import_module(library)
            _replace(module.AsyncClient, "send", partial(durable_send, module=module))
            _replace(module.Client, "send", partial(durable_send_sync, module=module))
    if find_spec("aiohttp") is not None:
        _replace(importlib.import_module("aiohttp").ClientSession, "_request", durable_request)
    if not _originals:
        raise UsageError(
            "There is no HTTP library here that clients of model providers use",
            code="HF0600",
            hint="Install the client of your provider first: pip install openai, for example.",
        )


def uninstrument() -> None:
    """Take back what `instrument` did. Does nothing if it did nothing.

    A method that somebody else has replaced meanwhile is left as it is: it may call ours.
    """
    while _originals:
        owner, name, original, ours = _originals.pop()
        if owner.__dict__[name] is ours:
            setattr(owner, name, original)


def _replace(owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
    original = owner.__dict__[name]
    ours = wrap(original)
    setattr(owner, name, ours)
    _originals.append((owner, name, original, ours))
