"""Names of streams."""

from __future__ import annotations

import re

from holdfast.domain.errors import UsageError

STREAM_DEFAULT = "default"
"""Where `ctx.emit` writes."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def is_stream_name(name: str) -> bool:
    """Return whether this may be the name of a stream: 1 to 64 of letters, digits and `_.-`."""
    return _NAME.fullmatch(name) is not None


def checked_stream_name(name: str) -> str:
    """Return a name that may be that of a stream.

    Raises:
        UsageError: HF0562.
    """
    if not is_stream_name(name):
        raise UsageError(
            f"{name[:80]!r} is no name for a stream.",
            code="HF0562",
            hint="Use 1 to 64 letters, digits, underscores, dots and hyphens.",
        )
    return name
