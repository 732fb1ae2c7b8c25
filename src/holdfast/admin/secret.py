"""Which headers carry secrets, and what is shown in place of their values."""

from __future__ import annotations

import re

from msgspec.structs import replace

from holdfast.domain.message import Call, Entry, Input, OneWayCall

HIDDEN = "(hidden)"

_WORDS = frozenset(
    {
        "apikey",
        "auth",
        "authorization",
        "cookie",
        "credential",
        "credentials",
        "jwt",
        "passwd",
        "password",
        "secret",
        "session",
        "token",
    }
)
_KEYS = re.compile(r"(?:^|[-_])(?:access|api|private|secret)[-_]key$")


def masked(name: str, value: str) -> str:
    """Return the value of a header, or what is shown in place of it.

    By the words of its name: everybody makes up names of their own for keys and tokens, and one
    that is shown cannot be taken back.
    """
    lowered = name.lower()
    is_secret = not _WORDS.isdisjoint(re.split("[-_]", lowered)) or _KEYS.search(lowered)
    return HIDDEN if is_secret else value


def without_secrets(entry: Entry) -> Entry:
    """Return an entry whose headers hide secrets."""
    if not isinstance(entry, Input | Call | OneWayCall) or not entry.headers:
        return entry
    return replace(
        entry, headers=tuple((name, masked(name, value)) for name, value in entry.headers)
    )
