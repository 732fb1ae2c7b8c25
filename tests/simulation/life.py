"""What the oracle keeps of one invocation, and of one attempt."""

from __future__ import annotations

from typing import Any

from holdfast.domain.message import Entry, Outcome
from holdfast.engine.row import InvocationRow


class Life:
    """What is durable of one invocation."""

    def __init__(self, invocation_id: str) -> None:
        self.id = invocation_id
        self.row: InvocationRow | None = None
        self.entries: list[Entry] = []
        self.commands: dict[int, Entry] = {}
        """By completion id, and by completion id of the child's id."""
        self.completed: set[int] = set()
        self.signals: dict[int, Any] = {}
        self.keys: set[str] = set()
        """Journal keys of commands."""
        self.steps: dict[str, int] = {}
        """Completion id by name."""
        self.base: dict[int, int] = {}
        """By attempt: how much of the journal was durable before it was decided to start it."""
        self.arrival: tuple[int, int] | None = None
        self.outcome: Outcome | None = None
        self.is_removed = False
        self.is_cancelled = False
        self.is_journal_purged = False


class Delivery:
    """What one attempt has been given. One per stream."""

    def __init__(self, invocation_id: str, attempt: int, life_number: int) -> None:
        self.invocation_id, self.attempt = invocation_id, attempt
        self.whose = (invocation_id, life_number)
        self.life: Life | None = None
        self.position = 0
        self.completions: set[int] = set()
