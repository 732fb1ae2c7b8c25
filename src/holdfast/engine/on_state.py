"""State that changes without a handler: edits by operators, and entries that have expired.

An edit has its place in the order of the exclusive invocations of its object key. If nobody holds
the key it is applied at once; else it waits in the inbox, and is applied between the invocation
before it and the one behind it. So no handler sees the state of its object change while it runs.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import sha256

from holdfast.domain.identity import workflow_id
from holdfast.engine.decision import Answer, Reply
from holdfast.engine.limit import INBOX_LENGTH_MAX
from holdfast.engine.record import StateEdited, StateExpired
from holdfast.engine.row import InboxRow, LockRow, StateEdit, StateRow, Table
from holdfast.engine.view import Draft


def state_version(entries: dict[str, bytes]) -> str:
    """Return a digest of the whole state of an object key, by which an edit says what it edits.

    The same as Restate's: SHA-256 over the entries in order of their names, base64url.
    """
    digest = sha256()
    for number, (name, value) in enumerate(sorted((n.encode(), v) for n, v in entries.items())):
        digest.update(number.to_bytes(8, "big"))
        digest.update(b"\x01" + name + b"\x02" + value + b"\x03")
    return urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()


def on_state_edited(draft: Draft, record: StateEdited) -> None:
    """Change the state of an object key, now or when its turn has come."""
    service, key, edit = record.service, record.key, record.edit
    is_writing = any(value is not None for _, value in edit.entries)
    if record.is_workflow and is_writing and draft.invocation(workflow_id(service, key)) is None:
        # Nothing would ever remove it.
        draft.answer = Answer(Reply.NOT_FOUND)
        return
    lock = draft.lock(service, key)
    if lock is None:
        is_applied = apply_edit(draft, service, key, edit)
        draft.answer = Answer(Reply.ACCEPTED if is_applied else Reply.STALE)
        return
    if lock.tail - lock.head >= INBOX_LENGTH_MAX:
        draft.answer = Answer(Reply.OVERLOADED)
        return
    draft.rows[Table.INBOX, service, key, lock.tail] = InboxRow("", edit)
    draft.rows[Table.LOCK, service, key] = LockRow(lock.holder, lock.head, lock.tail + 1)
    draft.answer = Answer(Reply.QUEUED)


def apply_edit(draft: Draft, service: str, key: str, edit: StateEdit) -> bool:
    """Change the state of an object key. Returns False if it is not what the editor has seen."""
    if edit.version is not None and edit.version != state_version(_read(draft, service, key)):
        return False
    if edit.is_replacing:
        draft.clear_state(service, key)
    for name, value in edit.entries:
        row = None if value is None else StateRow(value)
        if row is not None or not edit.is_replacing:
            draft.rows[Table.STATE, service, key, name] = row
    return True


def _read(draft: Draft, service: str, key: str) -> dict[str, bytes]:
    names = draft.state_names(service, key)
    draft.require([(Table.STATE, service, key, name) for name in names])
    values = ((name, draft.state(service, key, name)) for name in names)
    return {name: value for name, value in values if value is not None}


def on_state_expired(draft: Draft, record: StateExpired) -> None:
    """Remove entries that have expired. Those that were written again meanwhile stay."""
    keys = [(Table.STATE, record.service, record.key, name) for name in record.names]
    draft.require(keys)
    for key in keys:
        row = draft.fact(key)
        if isinstance(row, StateRow) and not row.is_live(draft.at_ms):
            draft.rows[key] = None
