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

from holdfast.domain.detail import Cost, ModelCall, TokenUsage, ToolCall
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
from holdfast.sdk.approval import Approval, Decision
from holdfast.sdk.context import Context, current
from holdfast.sdk.detail import describe_step
from holdfast.sdk.future import Awakeable, CallFuture, DurableFuture
from holdfast.sdk.handler import Handler
from holdfast.sdk.interrupt import Aborted, Suspended
from holdfast.sdk.invocation import Invocation, invocation
from holdfast.sdk.journal import JournalMismatch
from holdfast.sdk.race import Winner, race
from holdfast.sdk.retry import RetryPolicy
from holdfast.sdk.retryable import RetryableError
from holdfast.sdk.saga import CompensationError, Saga, saga
from holdfast.sdk.serde import Serde, SerdeError
from holdfast.sdk.service import Service, VirtualObject
from holdfast.sdk.sync import SyncContext
from holdfast.sdk.unknown import Happened, NotHappened, idempotency_key
from holdfast.sdk.verb_stream import Stream, emit
from holdfast.sdk.verb_workflow import Promise
from holdfast.sdk.workflow import Workflow

if TYPE_CHECKING:
    from holdfast import testing as testing
    from holdfast.sdk.aws_lambda import lambda_handler
    from holdfast.sdk.http_client import Client, SyncClient
    from holdfast.server.embedded import embedded

__version__ = "0.1.0"

__all__ = [
    "Aborted",
    "App",
    "Approval",
    "Awakeable",
    "CallFuture",
    "Client",
    "CompensationError",
    "ConflictError",
    "Context",
    "Cost",
    "Decision",
    "DurableFuture",
    "Handler",
    "Happened",
    "HoldfastError",
    "Invocation",
    "JournalMismatch",
    "ModelCall",
    "NotFoundError",
    "NotHappened",
    "Promise",
    "ProtocolError",
    "RetryPolicy",
    "RetryableError",
    "Saga",
    "Serde",
    "SerdeError",
    "Service",
    "StorageError",
    "Stream",
    "Suspended",
    "SyncClient",
    "SyncContext",
    "TerminalError",
    "TokenUsage",
    "ToolCall",
    "TransportError",
    "UsageError",
    "VirtualObject",
    "Winner",
    "Workflow",
    "__version__",
    "current",
    "describe_step",
    "embedded",
    "emit",
    "idempotency_key",
    "invocation",
    "lambda_handler",
    "race",
    "saga",
]


def __getattr__(name: str) -> Any:
    # Imported by those who use it: the server, and what it needs, takes its time.
    if name == "embedded":
        return importlib.import_module("holdfast.server.embedded").embedded
    if name == "lambda_handler":
        return importlib.import_module("holdfast.sdk.aws_lambda").lambda_handler
    if name == "testing":
        return importlib.import_module("holdfast.testing")
    if name in ("Client", "SyncClient"):
        return getattr(importlib.import_module("holdfast.sdk.http_client"), name)
    raise AttributeError(f"module 'holdfast' has no attribute {name!r}")
