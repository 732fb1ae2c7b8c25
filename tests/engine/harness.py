"""A partition without loops or stores: dictionaries, one record at a time."""

from __future__ import annotations

from itertools import count
from typing import Any, TypeVar

from holdfast.domain.approval import ApprovalStatus
from holdfast.domain.ids import key_partition_key, print_invocation_id, service_partition_key, ulid
from holdfast.domain.message import ChildId, Completion, Entry, FromHandler, Signal
from holdfast.domain.retry import RetrySchedule
from holdfast.domain.target import HandlerKind, HandlerManifest, ServiceKind, Target
from holdfast.engine.apply import apply
from holdfast.engine.decision import (
    Action,
    Answer,
    ClearState,
    DeleteAnnex,
    DeleteJournal,
    DeleteLane,
    DeleteStreams,
    DeleteTimers,
)
from holdfast.engine.record import HandlerSent, Invoke, Record
from holdfast.engine.row import (
    HandlerRow,
    InvocationRow,
    JournalRow,
    Lookup,
    Status,
    StreamRow,
    Table,
    note_of_completion,
    note_of_signal,
)
from holdfast.engine.view import Draft, Missing, Stamp, View
from holdfast.storage.memory_detail import Details

A = TypeVar("A", bound=Action)
NOW_MS = 1_000_000
DEPLOYMENT = "dp_test"


class Harness:
    """Applies records and keeps what they write, like a store would."""

    def __init__(self, *, partition: int = 0, partition_count: int = 1) -> None:
        self.partition = partition
        self.partition_count = partition_count
        self.epoch = 1
        self.now_ms = NOW_MS
        self.rows: dict[Any, Any] = {}
        self.journals: dict[str, list[JournalRow]] = {}
        self.handlers: dict[tuple[str, str], HandlerRow] = {}
        self.actions: list[Action] = []
        self.answer: Answer | None = None
        self._numbers = count(1)

    # -- set-up ----------------------------------------------------------------------------------

    def serve(
        self,
        service: str,
        handler: str,
        kind: HandlerKind = HandlerKind.PLAIN,
        retry: RetrySchedule | None = None,
    ) -> None:
        service_kind = {
            HandlerKind.PLAIN: ServiceKind.SERVICE,
            HandlerKind.WORKFLOW: ServiceKind.WORKFLOW,
        }.get(kind, ServiceKind.VIRTUAL_OBJECT)
        manifest = HandlerManifest(name=handler, kind=kind, retry=retry)
        self.handlers[service, handler] = HandlerRow(service_kind, manifest, DEPLOYMENT)

    def serve_workflow(self, service: str = "Signup") -> None:
        """Serve a workflow with main handler `run` and shared handlers `wait` and `confirm`."""
        for handler in ("run", "wait", "confirm"):
            kind = HandlerKind.WORKFLOW if handler == "run" else HandlerKind.SHARED
            manifest = HandlerManifest(name=handler, kind=kind, workflow_retention_ms=5000)
            self.handlers[service, handler] = HandlerRow(ServiceKind.WORKFLOW, manifest, DEPLOYMENT)

    def invoke(
        self,
        service: str = "Greeter",
        handler: str = "greet",
        key: str | None = None,
        *,
        invocation_id: str | None = None,
        **fields: Any,
    ) -> str:
        if (service, handler) not in self.handlers:
            kind = HandlerKind.PLAIN if key is None else HandlerKind.EXCLUSIVE
            self.serve(service, handler, kind)
        row = self.handlers[service, handler]
        if invocation_id is None:
            invocation_id = self.new_id(service, key)
        self.apply(
            Invoke(
                invocation_id=invocation_id,
                target=Target(service, handler, key),
                service_kind=row.service_kind,
                handler_kind=row.manifest.kind,
                parameter=b"1",
                retention_ms=1000,
                **fields,
            )
        )
        return invocation_id

    def new_id(self, service: str, key: str | None) -> str:
        partition_key = service_partition_key(service, 0) if key is None else key_partition_key(key)
        unique = ulid(self.now_ms, next(self._numbers).to_bytes(10, "big"))
        return print_invocation_id(partition_key.to_bytes(8, "big") + unique)

    # -- deeds -----------------------------------------------------------------------------------

    def apply(self, record: Record, *, at_ms: int | None = None) -> list[Action]:
        """Apply one record, write its change and return its actions."""
        return self.apply_together(record, at_ms=at_ms)

    def apply_together(self, *records: Record, at_ms: int | None = None) -> list[Action]:
        """Apply records in one batch; keep actions and answer of the last one."""
        view = View(self.partition, self.partition_count, self.epoch, {})
        at_ms = self.now_ms if at_ms is None else at_ms
        for record in records:
            stamp = Stamp(at_ms, next(self._numbers).to_bytes(16, "big"))
            draft = self._decide(view, record, stamp)
            view.merge(draft)
            self.actions, self.answer = draft.actions, draft.answer
        self._write(view)
        return self.actions

    def sent(self, invocation_id: str, *messages: FromHandler) -> list[Action]:
        """Apply messages of the current attempt."""
        attempt = self.row(invocation_id).attempt
        record = HandlerSent(invocation_id, self.epoch, attempt, DEPLOYMENT, messages)
        return self.apply(record)

    def _decide(self, view: View, record: Record, stamp: Stamp) -> Draft:
        while True:
            try:
                return apply(view, record, stamp)
            except Missing as missing:
                for key in missing.keys:
                    view.facts[key] = self._load(key)

    def _load(self, key: Any) -> Any:
        match key:
            case (Lookup.HANDLER, service, handler):
                return self.handlers.get((service, handler))
            case (Lookup.NOTIFICATION, invocation_id, note):
                notes = [_note(e) for e in self.journal(invocation_id)]
                return notes.index(note) if note in notes else None
            case (Lookup.CHILDREN, invocation_id):
                return tuple(
                    e.result.invocation_id
                    for e in self.journal(invocation_id)
                    if isinstance(e, Completion) and isinstance(e.result, ChildId)
                )
            case (Lookup.ENTRY, invocation_id, index):
                return self.journal(invocation_id)[index]
            case (Lookup.PROMISE_NAMES, service, object_key):
                return tuple(
                    sorted(k[3] for k in self.rows if k[:3] == (Table.PROMISE, service, object_key))
                )
            case (Lookup.STATE_NAMES, service, object_key, at_ms):
                return tuple(
                    sorted(
                        k[3]
                        for k, row in self.rows.items()
                        if k[:3] == (Table.STATE, service, object_key) and row.is_live(at_ms)
                    )
                )
            case (Lookup.APPROVALS, invocation_id, is_open):
                return tuple(
                    sorted(
                        k[2]
                        for k, row in self.rows.items()
                        if k[:2] == (Table.APPROVAL, invocation_id)
                        and (not is_open or row.status is ApprovalStatus.OPEN)
                    )
                )
            case (Lookup.ANNEX_SINKS, invocation_id):
                slots = sorted(k for k in self.rows if k[:2] == (Table.ANNEX, invocation_id))
                sinks = (self.rows[slot].sink for slot in slots)
                return tuple(sink for sink in sinks if sink is not None)
            case (Lookup.DETAILS | Lookup.CHAIN, *_):
                details = Details(self.rows)
                for known in self.rows:
                    if known[0] is Table.DETAIL:
                        details.put(known)
                return details.answer(key)
        return self.rows.get(key)

    def _write(self, view: View) -> None:
        for deletion in view.ranges:
            match deletion:
                case DeleteTimers(invocation_id):
                    self._drop(lambda k, i=invocation_id: k[0] is Table.TIMER and k[2] == i)
                case ClearState(service, key):
                    self._drop(lambda k, s=service, o=key: k[:3] == (Table.STATE, s, o))
                case DeleteAnnex(invocation_id):
                    self._drop(lambda k, i=invocation_id: k[:2] == (Table.ANNEX, i))
                case DeleteStreams(invocation_id):
                    self._drop(lambda k, i=invocation_id: k[:2] == (Table.STREAM, i))
                case DeleteLane(invocation_id, stream, lane, first_id):
                    self._drop(
                        lambda k, s=(Table.STREAM, invocation_id, stream), n=lane, f=first_id: (
                            k[:3] == s and k[3] >= f and self.rows[k].lane == n
                        )
                    )
                case DeleteJournal(invocation_id):
                    self.journals.pop(invocation_id, None)
        for key, row in view.rows.items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row
        for entry in view.journal:
            journal = self.journals.setdefault(entry.invocation_id, [])
            assert entry.index == len(journal), f"a gap in the journal at {entry}"
            journal.append(entry)

    def _drop(self, is_doomed: Any) -> None:
        for key in [k for k in self.rows if is_doomed(k)]:
            del self.rows[key]

    # -- looks -----------------------------------------------------------------------------------

    def row(self, invocation_id: str) -> InvocationRow:
        return self.rows[Table.INVOCATION, invocation_id]

    def status(self, invocation_id: str) -> Status:
        return self.row(invocation_id).status

    def journal(self, invocation_id: str) -> list[Entry]:
        return [row.entry for row in self.journals.get(invocation_id, [])]

    def timers(self) -> list[tuple[int, str, str]]:
        return sorted(k[1:] for k in self.rows if k[0] is Table.TIMER)

    def state(self, service: str, key: str) -> dict[str, bytes]:
        return {
            k[3]: row.value for k, row in self.rows.items() if k[:3] == (Table.STATE, service, key)
        }

    def stream(self, invocation_id: str, name: str = "default") -> dict[int, StreamRow]:
        """Return the rows of a stream, by the id of their first chunk."""
        found = sorted(k for k in self.rows if k[:3] == (Table.STREAM, invocation_id, name))
        return {key[3]: self.rows[key] for key in found}

    def acted(self, kind: type[A]) -> list[A]:
        return [action for action in self.actions if isinstance(action, kind)]


def _note(entry: Entry) -> str | None:
    match entry:
        case Completion():
            return note_of_completion(entry.completion_id)
        case Signal():
            return note_of_signal(entry.index, entry.name)
    return None
