"""`sys_journal`: the entries of journals."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from holdfast.admin.journal_view import kind_of
from holdfast.admin.secret import without_secrets
from holdfast.admin.sql.column import Column, Kind, Reader, Table, Wanted
from holdfast.admin.sql.condition import narrow_id
from holdfast.admin.sql.entry_json import Callee, entry_json, entry_lite_json
from holdfast.admin.sql.invocation import PARTITION_KEY
from holdfast.domain.errors import LocalProtocolError, NotFoundError
from holdfast.domain.ids import invocation_partition_key
from holdfast.domain.message import (
    AttachInvocation,
    Call,
    ChildId,
    Command,
    CompletePromise,
    Completion,
    Entry,
    GetInvocationOutput,
    GetPromise,
    OneWayCall,
    PeekPromise,
    Signal,
    Sleep,
)
from holdfast.domain.target import Target
from holdfast.engine.row import HandlerRow, JournalRow
from holdfast.protocol.restate.codec import Codec
from holdfast.protocol.restate.frame import HEADER_SIZE
from holdfast.storage.scan import Scan, Source

_CODEC = Codec(6, is_keyed=False)
_JOURNAL_VERSION = 2


@dataclass(frozen=True, slots=True)
class _Journal:
    """What the entries of one journal say about each other."""

    completed: frozenset[int]
    """Completion ids that have their result."""
    children: dict[int, str]
    """Ids of called invocations, by completion id."""
    find: Callable[[str, str], HandlerRow | None]


class Seen:
    """An entry, without secrets, and its journal."""

    __slots__ = ("entry", "journal", "row")

    def __init__(self, row: JournalRow, journal: _Journal) -> None:
        self.row = row
        self.entry: Entry = without_secrets(row.entry)
        self.journal = journal

    @property
    def command(self) -> Command | None:
        """The entry, if it is a command."""
        return None if isinstance(self.entry, Completion | Signal) else self.entry

    @property
    def completion_name(self) -> str:
        """Name of what a completion completes."""
        return kind_of(self.entry).partition(": ")[2]

    def callee(self) -> Callee | None:
        """Return what is known about the target of a call."""
        entry = self.entry
        if not isinstance(entry, Call | OneWayCall):
            return None
        found = self.journal.find(entry.service, entry.handler)
        return Callee(
            self.journal.children.get(entry.invocation_id_completion_id),
            None if found is None else found.service_kind,
            None if found is None else found.manifest,
        )


def _name(it: Seen) -> str | None:
    return None if it.command is None else it.command.name


def _is_completed(it: Seen) -> bool | None:
    completion_id = getattr(it.command, "completion_id", None)
    return None if completion_id is None else completion_id in it.journal.completed


def _invoked_id(it: Seen) -> str | None:
    if isinstance(it.entry, AttachInvocation | GetInvocationOutput):
        return it.entry.target_invocation_id
    callee = it.callee()
    return None if callee is None else callee.invocation_id


def _invoked_target(it: Seen) -> str | None:
    entry = it.entry
    if not isinstance(entry, Call | OneWayCall):
        return None
    return str(Target(entry.service, entry.handler, entry.object_key))


def _promise_name(it: Seen) -> str | None:
    entry = it.entry
    if not isinstance(entry, GetPromise | PeekPromise | CompletePromise):
        return None
    return entry.promise_name


def _raw(it: Seen) -> bytes | None:
    try:
        return _CODEC.encode(it.entry)[HEADER_SIZE:]
    except LocalProtocolError:
        # Our own handlers may record what does not fit into the fields of the wire.
        return None


def _raw_length(it: Seen) -> int | None:
    raw = _raw(it)
    return None if raw is None else len(raw)


async def _read(reader: Reader, wanted: Wanted) -> AsyncGenerator[Sequence[Seen]]:
    def find(service: str, handler: str) -> HandlerRow | None:
        try:
            return reader.handle.resolve(service, handler)
        except NotFoundError:
            return None

    held: list[JournalRow] = []
    async with aclosing(reader.handle.scan(Scan(Source.JOURNAL, wanted.conditions))) as pages:
        async for page in pages:
            rows = [row for row in page if isinstance(row, JournalRow)]
            # The last journal of the page may go on in the next one.
            last = rows[-1].invocation_id
            begin = next(i for i, row in enumerate(rows) if row.invocation_id == last)
            if held and held[-1].invocation_id == last:
                held += rows
                continue
            yield _together([*held, *rows[:begin]], find)
            held = rows[begin:]
    yield _together(held, find)


def _together(
    rows: Sequence[JournalRow], find: Callable[[str, str], HandlerRow | None]
) -> list[Seen]:
    """Return entries of whole journals, which know of each other."""
    seen: list[Seen] = []
    for _, group in groupby(rows, attrgetter("invocation_id")):
        entries = list(group)
        completions = [row.entry for row in entries if isinstance(row.entry, Completion)]
        children = {
            it.completion_id: it.result.invocation_id
            for it in completions
            if isinstance(it.result, ChildId)
        }
        journal = _Journal(frozenset(it.completion_id for it in completions), children, find)
        seen += [Seen(row, journal) for row in entries]
    return seen


JOURNAL = Table[Seen](
    "sys_journal",
    "Entries of journals. Headers that carry secrets are hidden.",
    (
        Column(
            "partition_key",
            Kind.U64,
            PARTITION_KEY,
            lambda it: invocation_partition_key(it.row.invocation_id),
        ),
        Column("id", Kind.TEXT, "invocation id", lambda it: it.row.invocation_id),
        Column("index", Kind.U32, "place in the journal, from 0", lambda it: it.row.index),
        Column(
            "entry_type",
            Kind.TEXT,
            "`Command: Run`, `Notification: Signal` and so on",
            lambda it: kind_of(it.entry),
        ),
        Column("name", Kind.TEXT, "name of a command", _name),
        Column(
            "completed", Kind.BOOL, "of commands with a result: whether it is there", _is_completed
        ),
        Column("invoked_id", Kind.TEXT, "the invocation that was called", _invoked_id),
        Column("invoked_target", Kind.TEXT, "what was called", _invoked_target),
        Column(
            "sleep_wakeup_at",
            Kind.TIME,
            "when a sleep ends",
            lambda it: it.entry.wake_up_at_ms if isinstance(it.entry, Sleep) else None,
        ),
        Column("promise_name", Kind.TEXT, "name of a promise", _promise_name),
        Column("raw", Kind.BYTES, "the entry as it travels, without its frame (protobuf)", _raw),
        Column("raw_length", Kind.U64, "its bytes", _raw_length),
        Column("version", Kind.U32, f"always {_JOURNAL_VERSION}", lambda it: _JOURNAL_VERSION),
        Column(
            "entry_json",
            Kind.TEXT,
            "the entry as JSON; bytes are lists of numbers",
            lambda it: entry_json(it.entry, it.callee(), it.completion_name),
        ),
        Column(
            "entry_lite_json",
            Kind.TEXT,
            "the same without payloads",
            lambda it: entry_lite_json(it.entry, it.completion_name),
        ),
        Column("appended_at", Kind.TIME, "when it was recorded", lambda it: it.row.at_ms),
    ),
    _read,
    {"id": narrow_id},
)
