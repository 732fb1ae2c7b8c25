"""What all stores share: what must be found in a journal quickly, and how a batch is refused."""

from __future__ import annotations

from holdfast.domain.errors import CorruptState, Fenced
from holdfast.domain.message import ChildId, Completion, Entry, Signal
from holdfast.engine.decision import Batch
from holdfast.engine.row import note_of_completion, note_of_signal


def note_of(entry: Entry) -> str | None:
    """Return the note under which NOTIFICATION finds an entry; None for commands."""
    if isinstance(entry, Completion):
        return note_of_completion(entry.completion_id)
    if isinstance(entry, Signal):
        return note_of_signal(entry.index, entry.name)
    return None


def child_of(entry: Entry) -> str | None:
    """Return the invocation that an entry says was made; None for all other entries."""
    if isinstance(entry, Completion) and isinstance(entry.result, ChildId):
        return entry.result.invocation_id
    return None


def fenced(batch: Batch, epoch: int) -> Fenced:
    """Return the error for a batch whose epoch is not `epoch`, the current one."""
    return Fenced(
        f"Partition {batch.partition} is led in epoch {epoch}; "
        f"a commit of epoch {batch.epoch} was refused",
        hint="Another leader has taken over. This one steps down; nothing is lost.",
    )


def journal_refused(partition: int) -> CorruptState:
    """Return the error for a batch whose journal entries contradict what is stored."""
    return CorruptState(
        f"A batch for partition {partition} was refused: one of its journal entries exists "
        "already, or belongs to an invocation that has no row",
        code="HF4112",
        hint="Nothing of the batch was written. This is a bug in the server; please report it.",
    )
