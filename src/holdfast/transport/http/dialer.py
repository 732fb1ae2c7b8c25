"""What reaches endpoints over HTTP (`Dialer`).

The rest of this room, with the HTTP client and protobuf below it, is imported when the first
endpoint is asked or connected.
"""

from __future__ import annotations

from holdfast.domain.deployment import Endpoint, HttpVersion
from holdfast.domain.target import Manifest
from holdfast.transport.base import EndpointPort, Sign


class HttpDialer:
    """Asks endpoints what they serve, and makes ports to them.

    Args:
        sign: Signs each request; None leaves them unsigned.
    """

    def __init__(self, sign: Sign | None = None) -> None:
        self._sign = sign

    async def discover(
        self, uri: str, headers: dict[str, str], http_version: HttpVersion | None
    ) -> tuple[Endpoint, Manifest]:
        """Ask an endpoint what it serves; see `Dialer`."""
        from holdfast.transport.http.discovery import discover

        return await discover(uri, headers, http_version, self._sign)

    def connect(self, name: str, endpoint: Endpoint, manifest: Manifest) -> EndpointPort:
        """Return the port to an endpoint; see `Dialer`."""
        from holdfast.transport.http.port import HttpPort

        return HttpPort(name, endpoint, manifest, self._sign)
