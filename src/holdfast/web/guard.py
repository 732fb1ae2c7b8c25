"""Which host names a server answers to.

A DNS name that suddenly resolves to 127.0.0.1 leads a foreign page to a server on loopback. Then
`Host` still has the foreign name, so it is what both doors look at first.
"""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.web.problem import Refusal, shown

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})


class HostList:
    """The host names that requests may carry.

    Args:
        names: Without port; None allows all.
    """

    def __init__(self, names: Iterable[str] | None) -> None:
        self.names = None if names is None else frozenset(name.lower() for name in names)

    def allows(self, host: str) -> bool:
        """Whether the value of a `Host` header has one of the names."""
        return self.names is None or _name_of(host.lower()) in self.names

    def refusal(self, host: str) -> Refusal:
        """Return the refusal of a foreign `Host` header."""
        return Refusal(
            421,
            "HF1008",
            f"Host {shown(host)} is not served here.",
            hint=f"Use one of: {', '.join(sorted(self.names or ()))}. A proxy must send one"
            " of them.",
        )


def _name_of(host: str) -> str:
    name, colon, port = host.rpartition(":")
    # In `[::1]` the last colon is part of the address; a port is digits only.
    return name if colon and port.isdigit() else host
