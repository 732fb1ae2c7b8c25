"""How a server asks an endpoint what it serves: media types, versions, and what can be wrong."""

from __future__ import annotations

import re

from holdfast.domain.errors import RemoteProtocolError

MANIFEST_VERSION_MIN = 1
MANIFEST_VERSION_MAX = 4

_PREFIX = "application/vnd.restate.endpointmanifest.v"
_SUFFIX = "+json"
_OFFER = re.compile(re.escape(_PREFIX) + r"([0-9]{1,4})" + re.escape(_SUFFIX))


class DiscoveryError(RemoteProtocolError):
    """What an endpoint says about itself cannot be used. Asking again gives the same answer.

    Args:
        message: What is wrong, and where.
        code: Ours.
        restate_code: Restate's code of the same mistake, `META0012` for example; None: it has none.
        status: HTTP status with which a registration fails: 400 when the definition of a service
            is refused, 500 when the endpoint's answer makes no sense.
        hint: What to do.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        restate_code: str | None = None,
        status: int = 500,
        hint: str = "",
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.restate_code = restate_code
        self.status = status


def manifest_media_type(version: int) -> str:
    """Return the content type of a manifest."""
    return f"{_PREFIX}{version}{_SUFFIX}"


DISCOVERY_ACCEPT = ", ".join(
    manifest_media_type(version)
    for version in range(MANIFEST_VERSION_MIN, MANIFEST_VERSION_MAX + 1)
)
"""Value of the Accept header of a discovery request."""


def choose_manifest_version(accept: str | None) -> int:
    """Return the version to answer a discovery request with: the highest that is offered.

    Args:
        accept: Value of the Accept header. None or `*/*` comes from a person who looks at the
            endpoint, and gets the highest version there is.

    Raises:
        RemoteProtocolError: HF1332, none of the offered versions is served. Answer it with HTTP
            415.
    """
    if accept is None or "*/*" in accept:
        return MANIFEST_VERSION_MAX
    offered = [int(number) for number in _OFFER.findall(accept.lower())]
    usable = [v for v in offered if MANIFEST_VERSION_MIN <= v <= MANIFEST_VERSION_MAX]
    if not usable:
        raise RemoteProtocolError(
            f"The server takes {accept!r}; this endpoint has manifests of versions "
            f"{MANIFEST_VERSION_MIN} to {MANIFEST_VERSION_MAX}",
            code="HF1332",
            hint=f"Ask with the header accept: {manifest_media_type(MANIFEST_VERSION_MAX)}.",
        )
    return max(usable)


def check_manifest_media_type(content_type: str | None) -> None:
    """Refuse an answer that does not claim to be a manifest.

    Args:
        content_type: Value of the header; None when there is none.

    Raises:
        DiscoveryError: HF1326.
    """
    match = _OFFER.fullmatch((content_type or "").partition(";")[0].strip().lower())
    if match is None or not MANIFEST_VERSION_MIN <= int(match[1]) <= MANIFEST_VERSION_MAX:
        raise DiscoveryError(
            f"The endpoint answers with content type {content_type!r}, expected one of "
            f"{DISCOVERY_ACCEPT}",
            code="HF1326",
            restate_code="META0013",
            hint="Is this the address of an SDK's endpoint, and its path complete?",
        )
