"""The tables that are made of invocations."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from http import HTTPStatus
from typing import NamedTuple, get_args

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
from holdfast.domain.ids import IdError, invocation_partition_key, parse_invocation_id
from holdfast.domain.message import Command, Failure, Output
from holdfast.domain.target import ServiceKind
from holdfast.engine.row import AttemptFailure, InvocationRow, OriginKind, Status, Waiting
from holdfast.server.handle import LiveAttempt
from holdfast.storage.scan import Comparison, Condition, Scan, ScannedInvocation, Source
from holdfast.web.problem import Refusal, shown

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

_PHRASES = {500: "Internal"}
_encode = msgspec.json.Encoder().encode


class Seen(NamedTuple):
    """An invocation, as it is now."""

    row: InvocationRow
    output: Output | None
    """Read only when a column needs it."""
    attempt: LiveAttempt | None
    """The one that runs."""

    @property
    def tried(self) -> InvocationRow | None:
        """The row, if it says something about attempts."""
        return self.row if self.row.status in _TRYING else None

    @property
    def failure(self) -> AttemptFailure | None:
        """How the last attempt failed."""
        return None if self.tried is None else self.row.last_failure


# -- values ----------------------------------------------------------------------------------------


def phrase(failure: AttemptFailure) -> str:
    """Return a failure as `[500 Internal] message`, with its stack trace on further lines."""
    code = failure.code
    try:
        name = _PHRASES.get(code) or HTTPStatus(code).phrase
    except ValueError:
        name = ""
    head = f"[{code} {name}]" if name else f"[{code}]"
    text = f"{head} {failure.message}"
    return f"{text}\n{failure.stacktrace}" if failure.stacktrace else text


def error_code(failure: AttemptFailure) -> str:
    """Return Restate's code for why an attempt failed."""
    return {570: "RT0016", 571: "RT0012"}.get(failure.code, "RT0007")


_COMMAND_NAMES = {kind.__struct_config__.tag: kind.__name__ for kind in get_args(Command)}


def command_type(failure: AttemptFailure) -> str | None:
    """Return the type of the command that failed, such as `Run`."""
    return _COMMAND_NAMES.get(failure.related_command_type)


def _failure_text(seen: Seen) -> str | None:
    result = seen.output.result if seen.output is not None else None
    return f"[{result.code}] {result.message}" if isinstance(result, Failure) else None


def _shown_status(seen: Seen) -> str:
    row = seen.row
    if row.status not in (Status.RUNNING, Status.BACKING_OFF):
        return "pending" if row.status is Status.PENDING else _STORED_STATUSES[row.status]
    if seen.attempt is not None:
        return "running"
    # Some failures do not count, and yet the next attempt waits.
    return "backing-off" if row.retry_count or row.status is Status.BACKING_OFF else "ready"


def _waiting_json(waiting: Waiting | None) -> str | None:
    if waiting is None:
        return None
    pairs: list[tuple[str, int | str]] = [
        *(("CompletionId", id_) for id_ in waiting.completions),
        *(("SignalIndex", index) for index in waiting.signals),
        *(("SignalName", name) for name in waiting.named_signals),
    ]
    return _encode({"Unknown": [{"Single": {kind: id_}} for kind, id_ in pairs]}).decode()


def _origin(
    kind: OriginKind, value: Callable[[InvocationRow], str | None]
) -> Callable[[Seen], str | None]:
    return lambda it: value(it.row) if it.row.origin.kind is kind else None


def _service_of(target: str | None) -> str | None:
    return None if target is None else target.partition("/")[0]


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
    Column("pinned_service_protocol_version", U32, _UNUSED, _nothing),
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
        lambda it: _waiting_json(it.row.waiting),
    ),
)

_STATE_COLUMNS: tuple[Column[Seen], ...] = (
    Column(
        "retry_count",
        U64,
        "failed attempts since its start or resumption",
        lambda it: it.tried and it.tried.retry_count,
    ),
    Column(
        "last_start_at",
        TIME,
        "when the running attempt began",
        lambda it: it.attempt and it.attempt.began_at_ms,
    ),
    Column(
        "last_attempt_deployment_id",
        TEXT,
        "deployment of its attempts",
        lambda it: it.attempt.deployment_id if it.attempt else it.tried and it.tried.deployment_id,
    ),
    Column("last_attempt_server", TEXT, _UNUSED, _nothing),
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


# -- conditions ------------------------------------------------------------------------------------


def narrow_id(test: Test, values: tuple[Constant, ...]) -> Narrowed:
    """Narrow by an invocation id.

    Raises:
        Refusal: HF1403, there is no such id, and with `=` that is a mistake.
    """
    if test is Test.IN:
        for value in values:
            try:
                parse_invocation_id(str(value))
            except IdError:
                raise Refusal(
                    # As Restate's server, whose tools expect it so.
                    500,
                    "HF1403",
                    f"{shown(str(value))} is not an invocation id: expected inv_1 and 33 more"
                    " characters.",
                    hint="Copy the whole id, as it was printed.",
                ) from None
    return _narrow_id(test, values)


_narrow_id = narrow_same("id")


def narrow_target(test: Test, values: tuple[Constant, ...]) -> Narrowed:
    """Narrow by what begins with a service and a slash."""
    heads = [str(value).partition("/") for value in values]
    if test not in (Test.IN, Test.PREFIX) or not all(slash for _, slash, _ in heads):
        return Narrowed()
    services = tuple(dict.fromkeys(service for service, _, _ in heads))
    return Narrowed((Condition("service", Comparison.IN, services),))


def _narrow_status(names: dict[Status, frozenset[str]]) -> Narrow:
    def narrow(test: Test, values: tuple[Constant, ...]) -> Narrowed:
        if test not in (Test.IN, Test.NOT_IN):
            return Narrowed()
        named = frozenset(str(value) for value in values)
        passing = {
            status: possible & named if test is Test.IN else possible - named
            for status, possible in names.items()
        }
        kept = tuple(sorted(status for status, possible in passing.items() if possible))
        is_exact = all(passing[status] == names[status] for status in kept)
        return Narrowed((Condition("status", Comparison.IN, kept),), is_exact)

    return narrow


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
    async with aclosing(reader.handle.scan(scan)) as pages:
        async for page in pages:
            yield [
                Seen(it.row, it.output, reader.attempts.get(it.row.id))
                for it in page
                if isinstance(it, ScannedInvocation)
            ]


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
    _NARROW | {"status": _narrow_status({s: frozenset({n}) for s, n in _STORED_STATUSES.items()})},
    is_ordered=True,
)
STATE = Table[Seen](
    "sys_invocation_state",
    "What is known about attempts, of invocations that are running, backing off or paused.",
    (
        _PARTITION_KEY,
        _ID,
        Column("in_flight", BOOL, "whether an attempt runs", lambda it: it.attempt is not None),
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
    _NARROW | {"status": _narrow_status(_SHOWN_STATUSES)},
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
