"""What an attempt knows of the state of its object: what it started with, and what it wrote."""

from __future__ import annotations

from typing import NamedTuple

from holdfast.domain.message import Start


class _Known(NamedTuple):
    content: bytes | None
    """None: known to be absent."""
    expires_at_ms: int


_ABSENT = _Known(None, 0)


class LocalState:
    """State entries by name. Times are milliseconds since the epoch."""

    def __init__(self, start: Start) -> None:
        self.is_complete = not start.is_state_partial
        """Whether what is not known here does not exist."""
        expiries = start.state_expiries
        self._known = {
            name: _Known(content, expiries.get(name, 0)) for name, content in start.state.items()
        }

    def is_known(self, name: str) -> bool:
        """Whether the server need not be asked."""
        return self.is_complete or name in self._known

    def get(self, name: str, at_ms: int) -> bytes | None:
        """Return an entry that is known; None: it does not exist."""
        content, expires_at_ms = self._known.get(name, _ABSENT)
        return None if expires_at_ms and expires_at_ms <= at_ms else content

    def names(self, at_ms: int) -> tuple[str, ...]:
        """Return the names of the entries that are known to exist, sorted."""
        return tuple(sorted(name for name in self._known if self.get(name, at_ms) is not None))

    def put(self, name: str, content: bytes, expires_at_ms: int = 0) -> None:
        """Write an entry; 0: it does not expire."""
        self._known[name] = _Known(content, expires_at_ms)

    def remove(self, name: str) -> None:
        """Remove an entry."""
        self._known[name] = _ABSENT

    def clear(self) -> None:
        """Remove all."""
        self._known.clear()
        self.is_complete = True
