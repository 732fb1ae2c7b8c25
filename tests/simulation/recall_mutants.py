"""Bugs in what a partition remembers of the keys that are busy; they join the list in `mutants`."""

from __future__ import annotations

from holdfast.server.recall import Recall

from .mutants import Patch, mutant


@mutant
def remembered_state_is_old() -> list[Patch]:
    """The state of a key that a partition remembers does not follow what is written."""
    return [(Recall, "_note_state", lambda *_: None)]
