"""Which hosts and pages may use the admin API.

Whoever reaches it can cancel work and read payloads, and a browser on the same machine reaches it.
So requests must name a host that is ours (a DNS name that suddenly resolves to 127.0.0.1 does not),
and those that change something must not come from a page of another origin.
"""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.web.asgi import Scope
from holdfast.web.guard import HostList
from holdfast.web.problem import Refusal, shown

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """Checks `Host`, `Origin` and `Sec-Fetch-Site`.

    Args:
        hosts: Allowed host names without port; None allows all.
        origins: Allowed foreign origins such as `https://tools.example.com`.
    """

    def __init__(self, hosts: Iterable[str] | None, origins: Iterable[str] = ()) -> None:
        self._hosts = HostList(hosts)
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
        if host and not self._hosts.allows(host):
            raise self._hosts.refusal(host)
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


def _foreign(found: str) -> Refusal:
    return Refusal(
        403,
        "HF1009",
        f"A web page of another origin may not do this ({found}).",
        hint="Use this server's own pages, the command line or a program.",
    )
