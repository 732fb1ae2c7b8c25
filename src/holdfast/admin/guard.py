"""Which hosts and pages may use the admin API.

Whoever reaches it can cancel work and read payloads, and a browser on the same machine reaches it.
So requests must name a host that is ours (a DNS name that suddenly resolves to 127.0.0.1 does not),
and those that change something must not come from a page of another origin.
"""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.admin.http import Refusal, Scope, shown

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """Checks `Host`, `Origin` and `Sec-Fetch-Site`.

    Args:
        hosts: Allowed host names without port; None allows all.
        origins: Allowed foreign origins such as `https://tools.example.com`.
    """

    def __init__(self, hosts: Iterable[str] | None, origins: Iterable[str] = ()) -> None:
        self._hosts = None if hosts is None else frozenset(name.lower() for name in hosts)
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)

    def check(self, scope: Scope) -> None:
        """Check a request or a WebSocket handshake.

        Raises:
            Refusal: HF1008 foreign host; HF1009 foreign page.
        """
        found = {b"host": "", b"origin": "", b"sec-fetch-site": ""}
        for name, value in scope["headers"]:
            if name in found:
                found[name] = value.decode("latin-1").lower()
        host, origin, site = found.values()
        # Browsers always send Host; what does not is a program.
        if self._hosts is not None and host and _name_of(host) not in self._hosts:
            raise Refusal(
                421,
                "HF1008",
                f"Host {shown(host)} is not served here.",
                hint=f"Use one of: {', '.join(sorted(self._hosts))}. An operator can allow more"
                " host names in the server's settings.",
            )
        # A WebSocket handshake is a GET, but browsers let pages of any origin make it.
        if scope["type"] == "websocket" or scope["method"] not in _READING:
            self._check_origin(host, origin, site)

    def _check_origin(self, host: str, origin: str, site: str) -> None:
        if origin in self._origins:
            return
        if origin and origin not in (f"http://{host}", f"https://{host}"):
            raise _foreign(f"Origin: {shown(origin)}")
        if site == "cross-site":
            raise _foreign("Sec-Fetch-Site: cross-site")


def _name_of(host: str) -> str:
    name, colon, port = host.rpartition(":")
    # In `[::1]` the last colon is part of the address; a port is digits only.
    return name if colon and port.isdigit() else host


def _foreign(found: str) -> Refusal:
    return Refusal(
        403,
        "HF1009",
        f"A web page of another origin may not do this ({found}).",
        hint="Use this server's own pages, the command line or a program.",
    )
