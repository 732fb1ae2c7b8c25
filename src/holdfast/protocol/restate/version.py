"""Versions of the service protocol, the media types that name them, and how one is agreed on.

A deployment says which versions its SDK speaks. An invocation is pinned to one of them together
with its deployment, and keeps it for its life.
"""

from __future__ import annotations

from holdfast.domain.errors import RemoteProtocolError

VERSION_MIN = 5
VERSION_MAX = 7
"""From version 7 on suspensions are trees, and a step's result can be acknowledged without an
echo."""
VERSION_MAX_BEFORE_TREES = 6
"""The highest where version 7 is switched off, and of invocations from before it was there."""

_INVOCATION_MEDIA_TYPE = "application/vnd.restate.invocation.v"


def agree_on_version(peer_min: int, peer_max: int, own_max: int = VERSION_MAX) -> int | None:
    """Return the highest version that both sides speak; None if there is none."""
    version = min(peer_max, own_max)
    return version if version >= max(peer_min, VERSION_MIN) else None


def invocation_media_type(version: int) -> str:
    """Return the content type of an invocation's request and response."""
    return f"{_INVOCATION_MEDIA_TYPE}{version}"


def parse_invocation_media_type(content_type: str | None) -> int:
    """Return the version that a content type names.

    Args:
        content_type: Value of the header; None when there is none.

    Raises:
        RemoteProtocolError: HF1331, another content type, or a version that is not spoken here.
            Answer it with HTTP 415.
    """
    text = (content_type or "").partition(";")[0].strip().lower()
    version = text.removeprefix(_INVOCATION_MEDIA_TYPE)
    for known in range(VERSION_MIN, VERSION_MAX + 1):
        if text != version and version == str(known):
            return known
    raise RemoteProtocolError(
        f"The content type is {content_type!r}, expected {_INVOCATION_MEDIA_TYPE}N with a version "
        f"N from {VERSION_MIN} to {VERSION_MAX}",
        code="HF1331",
        hint="Register the deployment again, so that server and SDK agree on a version.",
    )
