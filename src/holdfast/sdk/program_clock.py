"""The clock of a program whose server does not say when things were recorded. Sans-IO.

A reading is recorded as a step that is done. It is taken when the program asks for the time and
anything has been handed over since the last reading; otherwise no time has passed. All of that is
the same on replay, so the readings are, too.
"""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.domain.message import Completion, Entry, Notification, Value

KIND = "now"
"""Of the journal keys of readings."""


def is_reading(key: str) -> bool:
    """Return whether a journal key is that of a reading."""
    return key.rpartition("/")[2].startswith(f"{KIND}#")


class Readings:
    """The readings of one attempt.

    Args:
        numbers: Completion ids of the recorded ones, by key.
        entries: The journal so far.
    """

    def __init__(self, numbers: dict[str, int], entries: Iterable[Entry]) -> None:
        self.is_stale = True
        """Whether something was handed over since the last reading."""
        self._numbers = numbers
        self._ids = set(numbers.values())
        results: dict[int, int] = {}
        if numbers:
            for entry in entries:
                if isinstance(entry, Completion) and entry.completion_id in self._ids:
                    assert isinstance(entry.result, Value), "only values are proposed"
                    results[entry.completion_id] = int(entry.result.content)
        self._recorded_ms = {
            key: results[number] for key, number in numbers.items() if number in results
        }

    def on_turn(self, notification: Notification) -> None:
        """A notification has its turn."""
        # The record of a reading is not news to the program, and must not ask for another one.
        if not (isinstance(notification, Completion) and notification.completion_id in self._ids):
            self.is_stale = True

    def recorded_ms(self, key: str) -> int | None:
        """Return a recorded reading."""
        return self._recorded_ms.get(key)

    def begun(self, key: str) -> int | None:
        """Return the completion id of a reading that is recorded without its result."""
        return self._numbers.get(key)

    def begin(self, key: str, number: int) -> None:
        """A reading gets its completion id."""
        self._numbers[key] = number
        self._ids.add(number)
