"""What reaches endpoints over HTTP (`Dialer`).

The rest of this room, with the HTTP client and protobuf below it, is imported when the first
endpoint is asked or connected.
"""

from __future__ import annotations

from holdfast.domain.deployment import Endpoint, HttpVersion
from holdfast.domain.target import Manifest
from holdfast.protocol.restate.version import VERSION_MAX
from holdfast.transport.base import EndpointPort, Sign


class HttpDialer:
    """Asks endpoints what they serve, and makes ports to them.

    Args:
        sign: Signs each request; None leaves them unsigned.
        version_max: Highest version of the protocol for new invocations.
    """

    def __init__(self, sign: Sign | None = None, version_max: int = VERSION_MAX) -> None:
        self._sign = sign
        self._version_max = version_max

    async def discover(
        self, uri: str, headers: dict[str, str], http_version: HttpVersion | None
    ) -> tuple[Endpoint, Manifest]:
        """Ask an endpoint what it serves; see `Dialer`."""
        from holdfast.transport.http.discovery import discover

        return await discover(uri, headers, http_version, self._sign, self._version_max)

    def connect(self, name: str, endpoint: Endpoint, manifest: Manifest) -> EndpointPort:
        """Return the port to an endpoint; see `Dialer`."""
        from holdfast.transport.http.port import HttpPort

        return HttpPort(name, endpoint, manifest, self._sign, self._version_max)
