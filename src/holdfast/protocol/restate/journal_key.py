"""Journal keys inside of display names.

A server that does not know journal keys keeps the `name` of an entry and gives it back as it was.
So to such a server the key travels as the name (ADR 0016). A key is
`BRANCH/…/KIND:NAME#OCCURRENCE`; branch and name can be missing.
"""

from __future__ import annotations


def is_journal_key(text: str) -> bool:
    """Return whether a name has the form of a journal key."""
    head, _, occurrence = text.rpartition("#")
    kind = head.rpartition("/")[2].partition(":")[0]
    return kind.isidentifier() and occurrence.isascii() and occurrence.isdecimal()


def name_in_key(key: str) -> str:
    """Return the operation's name that is part of a journal key; a slash in it became a bar."""
    return key.rpartition("#")[0].rpartition("/")[2].partition(":")[2]
