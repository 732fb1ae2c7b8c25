"""What can be invoked: services, handlers and their options."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from holdfast.domain.retry import RetrySchedule

DAY_MS = 86_400_000
ABORT_TIMEOUT_MS = 600_000

MCP_FLAG = "holdfast.mcp"
"""In the metadata of a handler or a service: `true` says that it is a tool for agents."""


class ServiceKind(IntEnum):
    """Whether invocations have a key."""

    SERVICE = 0
    VIRTUAL_OBJECT = 1
    WORKFLOW = 2


class HandlerKind(IntEnum):
    """How invocations of one key share it."""

    PLAIN = 0
    """No key."""
    EXCLUSIVE = 1
    """One at a time per key; may write state."""
    SHARED = 2
    """Any number at once; reads state."""
    WORKFLOW = 3
    """Once per key."""


class HandlerManifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a deployment says about one handler. Durations in milliseconds."""

    name: str
    kind: HandlerKind
    input_content_type: str = "application/json"
    is_input_required: bool = True
    output_content_type: str = "application/json"
    input_schema: dict[str, object] | None = None
    output_schema: dict[str, object] | None = None
    documentation: str = ""
    retry: RetrySchedule | None = None
    """None: the server's default."""
    journal_retention_ms: int = DAY_MS
    idempotency_retention_ms: int = DAY_MS
    inactivity_timeout_ms: int = 60_000
    abort_timeout_ms: int = ABORT_TIMEOUT_MS
    is_private: bool = False
    is_state_lazy: bool = False
    workflow_retention_ms: int = DAY_MS
    """Only of a workflow's main handler."""
    invocation_timeout_ms: int | None = None
    """From when it may start to its end; None: no limit."""
    concurrency: int | None = None
    """Attempts that one server runs at once; None: no limit."""
    is_concurrency_shared: bool = False
    """Whether that limit is for all handlers of the service together that share it."""
    metadata: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    is_empty_output_typed: bool = False
    """Whether an empty result has the content type, too."""
    own_options: tuple[str, ...] = ()
    """Of the options above, those that the handler says itself, and not its service."""

    def retention_ms(self, idempotency_key: str | None) -> int:
        """Return how long a completed invocation that was requested so is kept."""
        if self.kind is HandlerKind.WORKFLOW:
            return self.workflow_retention_ms
        if idempotency_key is not None:
            return self.idempotency_retention_ms
        return self.journal_retention_ms


class ServiceManifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a deployment says about one service."""

    name: str
    kind: ServiceKind
    handlers: tuple[HandlerManifest, ...]
    documentation: str = ""
    metadata: dict[str, str] = msgspec.field(default_factory=dict[str, str])


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything a deployment serves."""

    services: tuple[ServiceManifest, ...]


class Target(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A handler of a service, for keyed services with a key."""

    service: str
    handler: str
    key: str | None = None

    def __str__(self) -> str:
        parts = (self.service, self.handler) if self.key is None else (
            self.service, self.key, self.handler,
        )  # fmt: skip
        return "/".join(parts)
