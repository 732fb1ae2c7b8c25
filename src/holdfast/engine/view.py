"""What the engine sees of the rows, and what it wants to change.

A `View` is the state of one partition during one batch: loaded rows, overlaid with the changes of
the batch so far. A `Draft` is the change of one record on top of it. If the draft needs a row that
was not loaded it raises `Missing`; the shell loads the row and applies the record to a new draft.
That is safe because applying is pure: an abandoned draft leaves no trace.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from copy import copy
from hashlib import blake2b
from typing import cast

import msgspec

from holdfast.domain.approval import ApprovalStatus
from holdfast.domain.ids import (
    invocation_partition_key,
    key_partition_key,
    partition_of,
    print_invocation_id,
    service_partition_key,
    ulid,
)
from holdfast.domain.message import ChildId, Completion, Entry, Notification, Signal
from holdfast.engine.decision import (
    Action,
    Answer,
    Batch,
    ClearState,
    DeleteAnnex,
    DeleteJournal,
    DeleteLane,
    DeleteStreams,
    DeleteTimers,
    Range,
    Reply,
    Row,
    SendOutbox,
)
from holdfast.engine.record import Envelope, OutboxRow
from holdfast.engine.row import (
    ApprovalRow,
    HandlerRow,
    InboxRow,
    InvocationRow,
    JournalRow,
    Key,
    LockRow,
    Lookup,
    PartitionRow,
    Sink,
    StateRow,
    StoredDetail,
    StoredNode,
    StreamRow,
    Table,
    note_of_completion,
    note_of_signal,
)

Fact = (
    Row
    | HandlerRow
    | Entry
    | int
    | tuple[str, ...]
    | tuple[int, ...]
    | tuple[Sink, ...]
    | tuple[StoredDetail, ...]
    | tuple[StoredNode, ...]
    | tuple[bytes, ...]
    | None
)
"""What can be known under a key."""


_OF_JOURNAL: dict[Table | Lookup | str | int | bytes, Fact] = {
    Lookup.NOTIFICATION: None,
    Lookup.CHILDREN: (),
    Lookup.ENTRY: None,
}
"""Lookups in a stored journal, and their answers when there is none."""


class Missing(Exception):
    """Rows outside the loaded ones are needed. Load them and apply the record again."""

    def __init__(self, keys: Sequence[Key]) -> None:
        super().__init__(*keys)
        self.keys = keys


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """What the leader adds to a record: the only time and randomness the engine knows."""

    at_ms: int
    entropy: bytes
    """At least 16 random bytes, not used for another record."""


class View:
    """The rows of one partition during one batch."""

    def __init__(
        self, partition: int, partition_count: int, epoch: int, facts: MutableMapping[Key, Fact]
    ) -> None:
        """Begin an empty batch on top of `facts`: everything known to be committed."""
        self.partition = partition
        self.partition_count = partition_count
        self.epoch = epoch
        self.facts = facts
        self.rows: dict[Key, Row | None] = {}
        self.ranges: list[Range] = []
        self.journal: list[JournalRow] = []
        self._notes: dict[tuple[str, str], int] = {}
        """Journal indexes of notifications, by invocation and note."""
        self._cleared: set[tuple[str, str]] = set()
        self._ended: set[str] = set()
        """Invocations whose annex this batch has deleted."""
        self._emptied: set[str] = set()
        """Invocations whose journal this batch has deleted: what is stored of it is no more."""
        self._children: dict[str, list[str]] = {}
        """By invocation: those that it made in this batch."""

    def batch(self) -> Batch:
        """Return the change to commit."""
        return Batch(self.partition, self.epoch, self.ranges, self.rows, self.journal)

    def is_changed(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.rows or self.ranges or self.journal)

    def fact(self, key: Key) -> Fact:
        """Return what is known under a key.

        Raises:
            Missing: Nothing is known yet.
        """
        try:
            return self.rows[key]
        except KeyError:
            pass
        if key[0] is Table.STATE and (key[1], key[2]) in self._cleared:
            return None
        if key[0] is Table.ANNEX and key[1] in self._ended:
            return None
        if key[0] in _OF_JOURNAL and key[1] in self._emptied:
            return _OF_JOURNAL[key[0]]
        try:
            return self.facts[key]
        except KeyError:
            raise Missing([key]) from None

    def merge(self, draft: Draft) -> None:
        """Take in the change of one record."""
        for deletion in draft.ranges:
            _drop_range(self.rows, deletion)
            if isinstance(deletion, DeleteJournal):
                self._drop_journal(deletion.invocation_id)
            self.ranges.append(deletion)
        self.rows.update(draft.rows)
        if draft.journal:
            self.journal.extend(draft.journal)
            for note, index in draft.notes.items():
                self._notes.setdefault(note, index)
            for parent, made in draft.made.items():
                self._children.setdefault(parent, []).extend(made)
        self._cleared |= draft.cleared
        self._ended |= draft.ended

    def _drop_journal(self, invocation_id: str) -> None:
        # Ranges are deleted before all entries of a batch are written, also before older ones.
        self.journal = [row for row in self.journal if row.invocation_id != invocation_id]
        self._notes = {note: at for note, at in self._notes.items() if note[0] != invocation_id}
        self._children.pop(invocation_id, None)
        self._emptied.add(invocation_id)

    def note_index(self, invocation_id: str, note: str) -> int | None:
        """Return the journal index of a notification that this batch appended."""
        return self._notes.get((invocation_id, note))

    def is_cleared(self, service: str, key: str) -> bool:
        """Whether this batch removed all state of an object."""
        return (service, key) in self._cleared

    def has_ended(self, invocation_id: str) -> bool:
        """Whether this batch deleted the annex of an invocation."""
        return invocation_id in self._ended

    def children(self, invocation_id: str) -> Sequence[str]:
        """Return the invocations that one made in this batch, in order."""
        return self._children.get(invocation_id, ())


def _drop_range(rows: dict[Key, Row | None], deletion: Range) -> None:
    """Forget changes of rows that a range deletion covers; it is applied before all of them."""
    match deletion:
        case DeleteTimers(invocation_id):
            doomed = [k for k in rows if k[0] is Table.TIMER and k[2] == invocation_id]
        case DeleteAnnex(invocation_id):
            doomed = [k for k in rows if k[0] is Table.ANNEX and k[1] == invocation_id]
        case DeleteStreams(invocation_id):
            doomed = [k for k in rows if k[0] is Table.STREAM and k[1] == invocation_id]
        case DeleteLane(invocation_id, stream, lane):
            doomed = [
                k
                for k, row in rows.items()
                if k[0] is Table.STREAM
                and k[1] == invocation_id
                and k[2] == stream
                and isinstance(row, StreamRow)
                and row.lane == lane
            ]
        case ClearState(service, key):
            doomed = [k for k in rows if k[0] is Table.STATE and k[1] == service and k[2] == key]
        case _:
            return
    for row_key in doomed:
        del rows[row_key]


class Draft:
    """The change of one record, while it is being decided."""

    def __init__(self, view: View, stamp: Stamp) -> None:
        self.view = view
        self.at_ms = stamp.at_ms
        self.entropy = stamp.entropy
        self.rows: dict[Key, Row | None] = {}
        self.ranges: list[Range] = []
        self.journal: list[JournalRow] = []
        self.actions: list[Action] = []
        self.answer = Answer(Reply.ACCEPTED)
        self.follow_ups: list[Envelope] = []
        self.notes: dict[tuple[str, str], int] = {}
        """As in the view."""
        self.cleared: set[tuple[str, str]] = set()
        self.ended: set[str] = set()
        """Invocations whose annex is deleted."""
        self.made: dict[str, list[str]] = {}
        """By invocation: those that it made."""
        self._new_ids: set[str] = set()
        self._id_count = 0

    # -- rows ----------------------------------------------------------------------------------

    def fact(self, key: Key) -> Fact:
        """Return what is known under a key, with this draft's changes."""
        try:
            return self.rows[key]
        except KeyError:
            pass
        if key[0] is Table.STATE and (key[1], key[2]) in self.cleared:
            return None
        if key[0] is Table.INVOCATION and key[1] in self._new_ids:
            return self.view.rows.get(key)
        return self.view.fact(key)

    def require(self, keys: Sequence[Key]) -> None:
        """Make sure that all of these are known.

        Raises:
            Missing: Some are not; names all of them.
        """
        facts, rows = self.view.facts, self.view.rows
        unknown = [
            key
            for key in keys
            if key not in facts
            and key not in rows
            and key not in self.rows
            and key[1] not in self._new_ids
        ]
        if unknown:
            raise Missing(unknown)

    def invocation(self, invocation_id: str) -> InvocationRow | None:
        """Return an invocation, to read."""
        return cast("InvocationRow | None", self.fact((Table.INVOCATION, invocation_id)))

    def edit(self, invocation_id: str) -> InvocationRow | None:
        """Return an invocation, to change in place; the change is part of this draft."""
        key = (Table.INVOCATION, invocation_id)
        if key in self.rows:
            return cast("InvocationRow | None", self.rows[key])
        known = cast("InvocationRow | None", self.fact(key))
        if known is None:
            return None
        row = copy(known)
        row.modified_at_ms = self.at_ms
        self.rows[key] = row
        return row

    def lock(self, service: str, key: str) -> LockRow | None:
        """Return the lock of an object key."""
        return cast("LockRow | None", self.fact((Table.LOCK, service, key)))

    def inbox(self, service: str, key: str, sequence: int) -> InboxRow | None:
        """Return a place in the inbox of an object key."""
        return cast("InboxRow | None", self.fact((Table.INBOX, service, key, sequence)))

    def handler(self, service: str, handler: str) -> HandlerRow | None:
        """Return what the catalog knows about a handler."""
        return cast("HandlerRow | None", self.fact((Lookup.HANDLER, service, handler)))

    def state(self, service: str, key: str, name: str) -> bytes | None:
        """Return one state entry."""
        row = cast("StateRow | None", self.fact((Table.STATE, service, key, name)))
        return None if row is None or not row.is_live(self.at_ms) else row.value

    def clear_state(self, service: str, key: str) -> None:
        """Remove all state of an object key."""
        self.delete_range(ClearState(service, key))
        self.cleared.add((service, key))

    def delete_range(self, deletion: Range) -> None:
        """Delete rows without reading them."""
        _drop_range(self.rows, deletion)
        self.ranges.append(deletion)
        if type(deletion) is DeleteAnnex:
            self.ended.add(deletion.invocation_id)

    def state_names(self, service: str, key: str) -> tuple[str, ...]:
        """Return the names of all state entries, sorted."""
        if self.view.is_cleared(service, key) or (service, key) in self.cleared:
            names: set[str] = set()
        else:
            lookup = (Lookup.STATE_NAMES, service, key, self.at_ms)
            names = set(cast("tuple[str, ...]", self.view.fact(lookup)))
        changed = self.rows if (service, key) in self.cleared else self.view.rows | self.rows
        for row_key, row in changed.items():
            if row_key[0] is Table.STATE and row_key[1] == service and row_key[2] == key:
                name = cast(str, row_key[3])
                if isinstance(row, StateRow) and row.is_live(self.at_ms):
                    names.add(name)
                else:
                    names.discard(name)
        return tuple(sorted(names))

    def promise_names(self, workflow: str, key: str) -> tuple[str, ...]:
        """Return the names of all promises of a workflow key, sorted."""
        lookup = (Lookup.PROMISE_NAMES, workflow, key)
        names = set(cast("tuple[str, ...]", self.view.fact(lookup)))
        for rows in (self.view.rows, self.rows):
            for row_key, row in rows.items():
                if row_key[0] is Table.PROMISE and row_key[1] == workflow and row_key[2] == key:
                    (names.discard if row is None else names.add)(cast(str, row_key[3]))
        return tuple(sorted(names))

    def approvals(self, invocation_id: str, *, is_open: bool) -> tuple[int, ...]:
        """Return the signal indexes of the approvals of an invocation, or the open ones, sorted."""
        lookup = (Lookup.APPROVALS, invocation_id, int(is_open))
        indexes = set(cast("tuple[int, ...]", self.view.fact(lookup)))
        for rows in (self.view.rows, self.rows):
            for row_key, row in rows.items():
                if row_key[0] is Table.APPROVAL and row_key[1] == invocation_id:
                    approval = cast("ApprovalRow | None", row)
                    is_in = approval is not None and (
                        not is_open or approval.status is ApprovalStatus.OPEN
                    )
                    (indexes.add if is_in else indexes.discard)(cast(int, row_key[2]))
        return tuple(sorted(indexes))

    # -- journal -------------------------------------------------------------------------------

    def append(self, row: InvocationRow, entry: Entry) -> int:
        """Append a journal entry and return its index."""
        index = row.journal_length
        row.journal_length = index + 1
        row.last_entry_at_ms = self.at_ms
        self.journal.append(JournalRow(row.id, index, self.at_ms, entry))
        if isinstance(entry, Completion):
            self.notes.setdefault((row.id, note_of_completion(entry.completion_id)), index)
            if isinstance(entry.result, ChildId):
                self.made.setdefault(row.id, []).append(entry.result.invocation_id)
        elif isinstance(entry, Signal):
            self.notes.setdefault((row.id, note_of_signal(entry.index, entry.name)), index)
        return index

    def has_notification(self, invocation_id: str, note: str) -> bool:
        """Whether a journal holds a notification."""
        return self.notification_index(invocation_id, note) is not None

    def notification_index(self, invocation_id: str, note: str) -> int | None:
        """Return the journal index of a notification; None when there is none."""
        index = self.notes.get((invocation_id, note))
        if index is None:
            index = self.view.note_index(invocation_id, note)
        if index is None:
            index = cast("int | None", self.view.fact((Lookup.NOTIFICATION, invocation_id, note)))
        return index

    def entry(self, invocation_id: str, index: int) -> Entry:
        """Return one journal entry."""
        for journal in (self.journal, self.view.journal):
            for row in reversed(journal):
                if row.invocation_id == invocation_id and row.index == index:
                    return row.entry
        entry = self.view.fact((Lookup.ENTRY, invocation_id, index))
        assert entry is not None, f"{invocation_id} has no entry {index}"
        return cast(Entry, entry)

    def entries(self, row: InvocationRow) -> list[Entry]:
        """Return a whole journal."""
        return self.entries_at(row, range(row.journal_length))

    def entries_at(self, row: InvocationRow, indexes: Sequence[int]) -> list[Entry]:
        """Return entries of a journal, in the order of the indexes; all are loaded at once."""
        journal = (*self.view.journal, *self.journal)
        recent = {each.index: each.entry for each in journal if each.invocation_id == row.id}
        stored = [index for index in indexes if index not in recent]
        self.require([(Lookup.ENTRY, row.id, index) for index in stored])
        return [
            recent[index]
            if index in recent
            else cast(Entry, self.view.fact((Lookup.ENTRY, row.id, index)))
            for index in indexes
        ]

    def children(self, invocation_id: str) -> tuple[str, ...]:
        """Return the ids of all invocations that this one made, in order."""
        stored = cast("tuple[str, ...]", self.view.fact((Lookup.CHILDREN, invocation_id)))
        recent = (*self.view.children(invocation_id), *self.made.get(invocation_id, ()))
        return tuple(dict.fromkeys((*stored, *recent)))

    # -- elsewhere -----------------------------------------------------------------------------

    def act(self, action: Action) -> None:
        """Wish for something after the commit."""
        self.actions.append(action)

    def send(self, message: Envelope, to_invocation_id: str) -> None:
        """Send a message to the partition of an invocation, exactly once.

        Within this partition it is applied with this record; else it goes through the outbox.
        """
        view = self.view
        partition = partition_of(invocation_partition_key(to_invocation_id), view.partition_count)
        if partition == view.partition:
            self.follow_ups.append(message)
            return
        key: Key = (Table.PARTITION,)
        counters = cast("PartitionRow | None", self.fact(key)) or PartitionRow()
        sequence = counters.outbox_next
        self.rows[key] = PartitionRow(sequence + 1)
        self.rows[Table.OUTBOX, sequence] = OutboxRow(partition, message)
        self.act(SendOutbox(sequence, partition, message))

    def new_invocation_id(self, service: str, key: str | None) -> str:
        """Return a new id for an invocation of this target."""
        self._id_count += 1
        digest = blake2b(
            self._id_count.to_bytes(4, "big"), key=self.entropy[:64], digest_size=16
        ).digest()
        partition_key = (
            key_partition_key(key)
            if key is not None
            else service_partition_key(service, int.from_bytes(digest[10:12], "big") % 512)
        )
        new_id = print_invocation_id(partition_key.to_bytes(8, "big") + ulid(self.at_ms, digest))
        self._new_ids.add(new_id)
        return new_id


def notification_note(notification: Notification) -> str:
    """Return the note under which a notification is found in its journal."""
    if isinstance(notification, Completion):
        return note_of_completion(notification.completion_id)
    return note_of_signal(notification.index, notification.name)
