"""The tables that are made of invocations."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import NamedTuple

import msgspec

from holdfast.admin.sql.column import (
    Column,
    Constant,
    Kind,
    Narrow,
    Narrowed,
    Reader,
    Table,
    Test,
    Wanted,
    narrow_same,
)
from holdfast.admin.sql.condition import narrow_id, narrow_status, narrow_target
from holdfast.admin.sql.failure import command_type, error_code, phrase
from holdfast.admin.sql.wait import waiting_json
from holdfast.domain.ids import invocation_partition_key
from holdfast.domain.message import Failure, Output
from holdfast.domain.target import ServiceKind
from holdfast.engine.row import AttemptFailure, InvocationRow, OriginKind, Status
from holdfast.server.handle import KnownAttempt
from holdfast.storage.scan import Comparison, Condition, Scan, ScannedInvocation, Source

TEXT, BOOL, U32, U64 = Kind.TEXT, Kind.BOOL, Kind.U32, Kind.U64
TIME, DURATION, U32_LIST = Kind.TIME, Kind.DURATION, Kind.U32_LIST

SERVICE_KINDS = {
    ServiceKind.SERVICE: "service",
    ServiceKind.VIRTUAL_OBJECT: "virtual_object",
    ServiceKind.WORKFLOW: "workflow",
}
_ORIGINS = {
    OriginKind.INGRESS: "ingress",
    OriginKind.SERVICE: "service",
    OriginKind.RESTART: "restart_as_new",
}
_STORED_STATUSES = {
    Status.SCHEDULED: "scheduled",
    Status.PENDING: "inboxed",
    Status.RUNNING: "invoked",
    Status.BACKING_OFF: "invoked",
    Status.SUSPENDED: "suspended",
    Status.PAUSED: "paused",
    Status.COMPLETED: "completed",
}
_STARTED = frozenset({"running", "backing-off", "ready"})
_SHOWN_STATUSES = {
    status: _STARTED if name == "invoked" else frozenset({name})
    for status, name in (_STORED_STATUSES | {Status.PENDING: "pending"}).items()
}
"""What `sys_invocation.status` may show; whether an attempt runs is not stored."""

_TRYING = (Status.RUNNING, Status.BACKING_OFF, Status.PAUSED)
"""Those that have rows in `sys_invocation_state`."""

_encode = msgspec.json.Encoder().encode


class Seen(NamedTuple):
    """An invocation, as it is now."""

    row: InvocationRow
    output: Output | None
    """Read only when a column needs it."""
    known: KnownAttempt | None
    """Its last attempt."""
    server: str | None
    """What its deployment says that it is."""

    @property
    def is_in_flight(self) -> bool:
        """Whether an attempt runs."""
        return self.known is not None and self.known.is_running

    @property
    def tried(self) -> InvocationRow | None:
        """The row, if it says something about attempts."""
        return self.row if self.row.status in _TRYING else None

    @property
    def last(self) -> KnownAttempt | None:
        """The last attempt, of those that are still tried."""
        return None if self.tried is None else self.known

    @property
    def failure(self) -> AttemptFailure | None:
        """How the last attempt failed."""
        return None if self.tried is None else self.row.last_failure


# -- values ----------------------------------------------------------------------------------------


def _failure_text(seen: Seen) -> str | None:
    result = seen.output.result if seen.output is not None else None
    return f"[{result.code}] {result.message}" if isinstance(result, Failure) else None


def _shown_status(seen: Seen) -> str:
    row = seen.row
    if row.status not in (Status.RUNNING, Status.BACKING_OFF):
        return "pending" if row.status is Status.PENDING else _STORED_STATUSES[row.status]
    if seen.is_in_flight:
        return "running"
    # Some failures do not count, and yet the next attempt waits.
    return "backing-off" if row.retry_count or row.status is Status.BACKING_OFF else "ready"


def _origin(
    kind: OriginKind, value: Callable[[InvocationRow], str | None]
) -> Callable[[Seen], str | None]:
    return lambda it: value(it.row) if it.row.origin.kind is kind else None


def _service_of(target: str | None) -> str | None:
    return None if target is None else target.partition("/")[0]


def _attempt_count(seen: Seen) -> int | None:
    """Return how many attempts count: those that failed, and the one that runs."""
    row = seen.tried
    if row is None:
        return None
    # Some failures do not count, but one there was.
    failed = max(row.retry_count, row.status is Status.BACKING_OFF)
    return failed + seen.is_in_flight


def _nothing(_: object) -> None:
    return None


def _completed(seen: Seen) -> str | None:
    if seen.row.status is not Status.COMPLETED:
        return None
    return "failure" if seen.row.has_failed else "success"


_ID = Column[Seen]("id", TEXT, "invocation id", lambda it: it.row.id)
PARTITION_KEY = "hash that chooses the partition"
_PARTITION_KEY = Column[Seen](
    "partition_key", U64, PARTITION_KEY, lambda it: invocation_partition_key(it.row.id)
)
_UNUSED = "always null"

_STATUS_COLUMNS: tuple[Column[Seen], ...] = (
    _ID,
    Column("vqueue_id", TEXT, _UNUSED, _nothing),
    Column(
        "status",
        TEXT,
        "`inboxed`, `scheduled`, `invoked`, `suspended`, `paused` or `completed`",
        lambda it: _STORED_STATUSES[it.row.status],
        is_nullable=False,
    ),
    Column("completion_result", TEXT, "`success` or `failure`", _completed),
    Column("completion_failure", TEXT, "`[409] killed`: code and message", _failure_text),
    Column(
        "target", TEXT, "`Service/handler` or `Object/key/handler`", lambda it: str(it.row.target)
    ),
    Column("target_service_name", TEXT, "service", lambda it: it.row.target.service),
    Column(
        "target_service_key", TEXT, "key of an object or workflow", lambda it: it.row.target.key
    ),
    Column("target_handler_name", TEXT, "handler", lambda it: it.row.target.handler),
    Column(
        "target_service_ty",
        TEXT,
        "`service`, `virtual_object` or `workflow`",
        lambda it: SERVICE_KINDS[it.row.service_kind],
    ),
    Column("scope", TEXT, _UNUSED, _nothing),
    Column("limit_key", TEXT, _UNUSED, _nothing),
    Column("idempotency_key", TEXT, "the caller's key", lambda it: it.row.idempotency_key),
    Column(
        "invoked_by",
        TEXT,
        "`ingress`, `service` or `restart_as_new`",
        lambda it: _ORIGINS[it.row.origin.kind],
    ),
    Column(
        "invoked_by_id",
        TEXT,
        "the invocation that called it",
        _origin(OriginKind.SERVICE, lambda row: row.origin.invocation_id),
    ),
    Column("invoked_by_subscription_id", TEXT, _UNUSED, _nothing),
    Column(
        "invoked_by_service_name",
        TEXT,
        "service of the caller",
        _origin(OriginKind.SERVICE, lambda row: _service_of(row.origin.target)),
    ),
    Column(
        "invoked_by_target",
        TEXT,
        "target of the caller",
        _origin(OriginKind.SERVICE, lambda row: row.origin.target),
    ),
    Column(
        "restarted_from",
        TEXT,
        "the invocation that was restarted as this one",
        _origin(OriginKind.RESTART, lambda row: row.origin.invocation_id),
    ),
    Column(
        "pinned_deployment_id",
        TEXT,
        "deployment on which it has begun",
        lambda it: it.row.deployment_id,
    ),
    Column(
        "pinned_service_protocol_version",
        U32,
        "version of the service protocol that it has begun in; null over the worker socket",
        lambda it: it.row.protocol_version or None,
    ),
    Column("trace_id", TEXT, _UNUSED, _nothing),
    Column("journal_size", U32, "entries of its journal", lambda it: it.row.journal_length),
    Column("journal_commands_size", U32, _UNUSED, _nothing),
    Column("created_at", TIME, "when it was accepted", lambda it: it.row.created_at_ms),
    Column("created_using_restate_version", TEXT, _UNUSED, _nothing),
    Column("modified_at", TIME, "when it changed last", lambda it: it.row.modified_at_ms),
    Column(
        "inboxed_at",
        TIME,
        "while it waits for its key: since when",
        lambda it: (
            max(it.row.created_at_ms, it.row.execute_at_ms)
            if it.row.status is Status.PENDING
            else None
        ),
    ),
    Column(
        "scheduled_at",
        TIME,
        "when a delayed one was accepted",
        lambda it: it.row.created_at_ms if it.row.execute_at_ms else None,
    ),
    Column(
        "scheduled_start_at",
        TIME,
        "when a delayed one begins",
        lambda it: it.row.execute_at_ms or None,
    ),
    Column("running_at", TIME, _UNUSED, _nothing),
    Column("completed_at", TIME, "when it completed", lambda it: it.row.completed_at_ms or None),
    Column(
        "completion_retention",
        DURATION,
        "how long its outcome is kept",
        lambda it: it.row.retention_ms,
    ),
    Column(
        "journal_retention",
        DURATION,
        "how long its journal is kept",
        lambda it: it.row.retention_ms,
    ),
    Column(
        "suspended_waiting_for_completions",
        U32_LIST,
        "commands it waits for; null when they are more than its row holds",
        lambda it: it.row.waiting and it.row.waiting.completions,
    ),
    Column(
        "suspended_waiting_for_signals",
        U32_LIST,
        "signals it waits for, by index; null as above",
        lambda it: it.row.waiting and it.row.waiting.signals,
    ),
    Column(
        "suspended_waiting_future_json",
        TEXT,
        "the same as JSON, with named signals",
        lambda it: waiting_json(it.row.waiting),
    ),
)

_STATE_COLUMNS: tuple[Column[Seen], ...] = (
    Column(
        "retry_count",
        U64,
        "attempts since its start or resumption: those that failed and count, and the one that"
        " runs",
        _attempt_count,
    ),
    Column(
        "last_start_at",
        TIME,
        "when the last attempt began; null when the server has started since",
        lambda it: it.last and it.last.began_at_ms,
    ),
    Column(
        "last_attempt_deployment_id",
        TEXT,
        "deployment of its attempts",
        lambda it: it.last.deployment_id if it.last else it.tried and it.tried.deployment_id,
    ),
    Column(
        "last_attempt_server",
        TEXT,
        "SDK and version of that deployment, such as `restate-sdk-python/1.3.0`",
        lambda it: it.tried and it.server,
    ),
    Column(
        "next_retry_at",
        TIME,
        "when the next attempt begins",
        lambda it: it.row.retry_at_ms if it.row.status is Status.BACKING_OFF else None,
    ),
    Column(
        "last_failure",
        TEXT,
        "`[500 Internal] message`, stack trace below",
        lambda it: it.failure and phrase(it.failure),
    ),
    Column(
        "last_failure_error_code",
        TEXT,
        "`RT0007` and others, as in Restate",
        lambda it: it.failure and error_code(it.failure),
    ),
    Column(
        "last_failure_related_command_index",
        U64,
        "command that failed, counted from the first",
        lambda it: it.failure and it.failure.related_command_index,
    ),
    Column(
        "last_failure_related_command_name",
        TEXT,
        "its name",
        lambda it: it.failure and it.failure.related_command_name,
    ),
    Column(
        "last_failure_related_command_type",
        TEXT,
        "its type",
        lambda it: it.failure and command_type(it.failure),
    ),
    Column("last_failure_related_entry_index", U64, _UNUSED, _nothing),
    Column("last_failure_related_entry_name", TEXT, _UNUSED, _nothing),
    Column("last_failure_related_entry_type", TEXT, _UNUSED, _nothing),
    Column("last_awaiting_on_future_json", TEXT, _UNUSED, _nothing),
)


def _narrow_created(test: Test, values: tuple[Constant, ...]) -> Narrowed:
    return Narrowed() if test is Test.PREFIX else _narrow_created_ms(test, values)


_narrow_created_ms = narrow_same("created_at_ms")
_NARROW: dict[str, Narrow] = {
    "id": narrow_id,
    "target": narrow_target,
    "target_service_name": narrow_same("service"),
    "target_service_key": narrow_same("key"),
    "target_handler_name": narrow_same("handler"),
    "created_at": _narrow_created,
}


# -- reading ---------------------------------------------------------------------------------------


async def _read(reader: Reader, wanted: Wanted) -> AsyncGenerator[Sequence[Seen]]:
    scan = Scan(
        Source.INVOCATION,
        wanted.conditions,
        wanted.order,
        wanted.limit,
        has_outputs="completion_failure" in wanted.columns,
    )
    servers = {
        deployment.id: deployment.endpoint.sdk_version or None
        for deployment in reader.handle.deployments()
        if deployment.endpoint is not None
    }
    async with aclosing(reader.handle.scan(scan)) as pages:
        async for page in pages:
            yield [
                _see(it, reader.attempts.get(it.row.id), servers)
                for it in page
                if isinstance(it, ScannedInvocation)
            ]


def _see(
    found: ScannedInvocation, known: KnownAttempt | None, servers: Mapping[str, str | None]
) -> Seen:
    deployment_id = found.row.deployment_id if known is None else known.deployment_id
    return Seen(found.row, found.output, known, servers.get(deployment_id or ""))


def read_in(*statuses: Status) -> Callable[[Reader, Wanted], AsyncGenerator[Sequence[Seen]]]:
    """Return what reads invocations in some statuses only."""
    condition = Condition("status", Comparison.IN, statuses)

    def read(reader: Reader, wanted: Wanted) -> AsyncGenerator[Sequence[Seen]]:
        return _read(reader, wanted._replace(conditions=(*wanted.conditions, condition)))

    return read


# -- tables ----------------------------------------------------------------------------------------

STATUS = Table[Seen](
    "sys_invocation_status",
    "Invocations, as they are stored.",
    (_PARTITION_KEY, *_STATUS_COLUMNS),
    _read,
    _NARROW | {"status": narrow_status({s: frozenset({n}) for s, n in _STORED_STATUSES.items()})},
    is_ordered=True,
)
STATE = Table[Seen](
    "sys_invocation_state",
    "What is known about attempts, of invocations that are running, backing off or paused.",
    (
        _PARTITION_KEY,
        _ID,
        Column("in_flight", BOOL, "whether an attempt runs", lambda it: it.is_in_flight),
        *_STATE_COLUMNS,
    ),
    read_in(*_TRYING),
    {"id": narrow_id},
)
INVOCATION = Table[Seen](
    "sys_invocation",
    "`sys_invocation_status` and `sys_invocation_state` in one: a view.",
    (
        *(
            Column(
                "status",
                TEXT,
                "`pending`, `scheduled`, `ready`, `running`, `backing-off`, `suspended`, `paused`"
                " or `completed`",
                _shown_status,
                is_nullable=False,
            )
            if column.name == "status"
            else column
            for column in _STATUS_COLUMNS
        ),
        *_STATE_COLUMNS,
    ),
    _read,
    _NARROW | {"status": narrow_status(_SHOWN_STATUSES)},
    is_view=True,
    is_ordered=True,
)
INBOX = Table[Seen](
    "sys_inbox",
    "Invocations that wait for their key.",
    (
        _PARTITION_KEY,
        Column("service_name", TEXT, "service", lambda it: it.row.target.service),
        Column("service_key", TEXT, "key", lambda it: it.row.target.key),
        _ID,
        Column(
            "sequence_number", U64, "place in the line of its key", lambda it: it.row.inbox_sequence
        ),
        Column("created_at", TIME, "when it was accepted", lambda it: it.row.created_at_ms),
    ),
    read_in(Status.PENDING),
    {
        "id": narrow_id,
        "service_name": narrow_same("service"),
        "service_key": narrow_same("key"),
        "created_at": _narrow_created,
    },
    is_ordered=True,
)
