"""Which hosts and pages may talk to the ingress.

A server on loopback has no other wall between it and the pages that a developer's browser shows.
Two tricks get a foreign page through: a DNS name that suddenly resolves to 127.0.0.1 (then `Host`
is foreign), and a plain cross-site request, which browsers send without asking (then they say so in
`Sec-Fetch-Site`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable

from holdfast.web.asgi import Scope
from holdfast.web.guard import LOOPBACK_HOSTS, HostList
from holdfast.web.problem import Refusal

_CACHE_SIZE_MAX = 256


def hosts_allowed(bind_host: str, configured: Collection[str] = ()) -> frozenset[str] | None:
    """Return the host names that requests may carry, or None when any will do.

    Args:
        bind_host: Address that the server listens on.
        configured: Names that the operator allows, without port.
    """
    names = frozenset(name.lower() for name in configured)
    if _is_loopback(bind_host):
        return names | LOOPBACK_HOSTS
    return names or None


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """Checks `Host` and `Sec-Fetch-Site`.

    Args:
        hosts: Allowed host names without port; None allows all, and pages of any site.
    """

    def __init__(self, hosts: Iterable[str] | None) -> None:
        self._hosts = HostList(hosts)
        self._verdicts: dict[bytes, bool] = {}

    def check_host(self, host: bytes) -> None:
        """Refuse a foreign `Host` header."""
        verdict = self._verdicts.get(host)
        if verdict is None:
            verdict = self._hosts.allows(host.decode("latin-1"))
            # Bounded, because the header is the client's to choose.
            if len(self._verdicts) >= _CACHE_SIZE_MAX:
                self._verdicts.clear()
            self._verdicts[host] = verdict
        if not verdict:
            raise self._hosts.refusal(host.decode("latin-1"))

    def check_scope(self, scope: Scope) -> None:
        """Refuse a foreign `Host` header of a request or WebSocket handshake."""
        for name, value in scope["headers"]:
            if name == b"host":
                self.check_host(value)

    def check_site(self, site: bytes) -> None:
        """Refuse a request that a browser marks as coming from another site's page."""
        if site == b"cross-site" and self._hosts.names is not None:
            raise Refusal(
                403,
                "HF1009",
                "A web page of another site may not call this server (Sec-Fetch-Site: cross-site).",
                hint="Call from a program, or from a page on this machine.",
            )
