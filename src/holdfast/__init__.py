"""Holdfast: durable execution for AI agents, in Python.

Example:
    import holdfast as hf

    greeter = hf.Service("Greeter")

    @greeter.handler
    async def greet(ctx: hf.Context, name: str) -> str:
        return await ctx.run("compose", compose_greeting, name)

    app = hf.App(greeter)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from holdfast.domain.errors import (
    ConflictError,
    HoldfastError,
    NotFoundError,
    ProtocolError,
    StorageError,
    TerminalError,
    TransportError,
    UsageError,
)
from holdfast.sdk.app import App
from holdfast.sdk.context import Context, current
from holdfast.sdk.future import Awakeable, CallFuture, DurableFuture
from holdfast.sdk.handler import Handler
from holdfast.sdk.interrupt import Aborted, Suspended
from holdfast.sdk.journal import JournalMismatch
from holdfast.sdk.retry import RetryPolicy
from holdfast.sdk.serde import Serde, SerdeError
from holdfast.sdk.service import Service, VirtualObject

if TYPE_CHECKING:
    from holdfast.sdk.http_client import Client, SyncClient
    from holdfast.server.embedded import embedded

__version__ = "0.1.0"

__all__ = [
    "Aborted",
    "App",
    "Awakeable",
    "CallFuture",
    "Client",
    "ConflictError",
    "Context",
    "DurableFuture",
    "Handler",
    "HoldfastError",
    "JournalMismatch",
    "NotFoundError",
    "ProtocolError",
    "RetryPolicy",
    "Serde",
    "SerdeError",
    "Service",
    "StorageError",
    "Suspended",
    "SyncClient",
    "TerminalError",
    "TransportError",
    "UsageError",
    "VirtualObject",
    "__version__",
    "current",
    "embedded",
]


def __getattr__(name: str) -> Any:
    # Imported by those who use it: the server, and what it needs, takes its time.
    if name == "embedded":
        return importlib.import_module("holdfast.server.embedded").embedded
    if name in ("Client", "SyncClient"):
        return getattr(importlib.import_module("holdfast.sdk.http_client"), name)
    raise AttributeError(f"module 'holdfast' has no attribute {name!r}")
