"""Names of signals."""

from __future__ import annotations

from holdfast.domain.errors import UsageError

SIGNAL_NAME_LENGTH_MAX = 256


def check_signal_name(name: str) -> None:
    """Refuse what cannot be the name of a signal.

    Raises:
        UsageError: HF0520.
    """
    if not 0 < len(name) <= SIGNAL_NAME_LENGTH_MAX or "\0" in name:
        raise UsageError(
            f"{name[:40]!r} is no name for a signal: it has 1 to {SIGNAL_NAME_LENGTH_MAX} "
            "characters, and no NUL",
            code="HF0520",
        )
