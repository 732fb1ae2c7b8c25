"""Where attempts are to be crashed."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from holdfast.domain.errors import UsageError
from holdfast.domain.message import Command

When = Literal["before", "during", "after"]

_POINT = re.compile(r"(before|during|after):(.+)")
_NUMBERED = re.compile(r"(\w+)(?: (\d+))?")
_KEY = re.compile(r"(?:.*/)?(\w+)(?::(.*))?#\d+")


class Operation(NamedTuple):
    """One operation of an invocation, as its journal names it."""

    invocation_id: str
    key: str
    kind: str
    """`step`, `sleep`, `call`, `send`, `get`, `set`, …, `output`."""
    name: str
    number: int
    """Among those of its kind in this invocation, from 1, in recorded order."""

    def __str__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return f"{self.kind} {self.number}{name} of {self.invocation_id}"


class Operations:
    """Counts the operations of one invocation."""

    def __init__(self, invocation_id: str) -> None:
        self._invocation_id = invocation_id
        self._counts: dict[str, int] = {}

    def add(self, command: Command) -> Operation | None:
        """Take the next command; None if it is none of the program's own."""
        found = _KEY.fullmatch(command.key)
        if found is None:
            return None
        kind, name = found.groups()
        kind = "step" if kind == "run" else kind
        number = self._counts[kind] = self._counts.get(kind, 0) + 1
        return Operation(self._invocation_id, command.key, kind, name or "", number)


class CrashPoint:
    """A place to crash at.

    Args:
        text: `WHEN:WHAT`. WHEN is `before` (nothing of it is recorded), `during` (a step whose body
            has run, and whose result is lost) or `after` (recorded, and the handler has not heard).
            WHAT is a kind of operation, a kind with a number from 1, or a name.
        is_every: Whether to crash at each operation that fits, instead of at the first.

    Raises:
        UsageError: HF0550, the text is not of this form.
    """

    def __init__(self, text: str, *, is_every: bool) -> None:
        found = _POINT.fullmatch(text)
        if found is None:
            raise UsageError(
                f"{text!r} is not a place to crash at",
                code="HF0550",
                hint='Write WHEN:WHAT, such as "after:step 3", "during:charge card" or '
                '"before:sleep".',
            )
        self.text = text
        self.has_hit = False
        self._when, self._what = found.groups()
        self._is_every = is_every

    def fits(self, when: When, operation: Operation) -> bool:
        """Return whether this is the place. Does not look at whether it has been hit."""
        if when != self._when or (self.has_hit and not self._is_every):
            return False
        numbered = _NUMBERED.fullmatch(self._what)
        if numbered is not None and numbered[1] == operation.kind:
            return numbered[2] is None or int(numbered[2]) == operation.number
        # Keys have no slashes in names: a call's is a dot, that of another name a bar.
        name = self._what
        return operation.name in (name, name.replace("/", "|"), name.replace("/", "."))


class Crashes:
    """All places to crash at, and what has been crashed."""

    def __init__(self) -> None:
        self.points: list[CrashPoint] = []
        self.done: list[str] = []
        """What was hit, in order."""
        self._hit: set[tuple[CrashPoint, str, str]] = set()

    def hits(self, when: When, operation: Operation | None) -> str | None:
        """Return a text if this is a place to crash at, and remember that.

        Each operation is hit once by each place, so that the next attempt gets further.
        """
        if operation is None:
            return None
        for point in self.points:
            hit = (point, operation.invocation_id, operation.key)
            if hit not in self._hit and point.fits(when, operation):
                self._hit.add(hit)
                point.has_hit = True
                self.done.append(f"{when} {operation}")
                return self.done[-1]
        return None
