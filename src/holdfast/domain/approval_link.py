"""Signed links: whoever has one may decide one approval, until its deadline, and nothing else.

    secret of the store ──▶ key of an invocation ──▶ token of one approval, one person, one deadline

The server gives each attempt the key of its invocation, so handlers make their links themselves,
the same at every replay, and know nothing that would open another invocation's approvals.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b

ROUTE = "/holdfast/v1/approvals"
"""Where approvals are, on both front doors."""

_VERSION = "1"
_MAC_SIZE = 24
_TOKEN_LENGTH_MAX = 4096


class LinkError(ValueError):
    """A token opens nothing.

    Attributes:
        is_expired: It was good once.
    """

    def __init__(self, message: str, *, is_expired: bool = False) -> None:
        super().__init__(message)
        self.is_expired = is_expired


def invocation_key(secret: bytes, invocation_id: str) -> bytes:
    """Return the key that signs the links of one invocation.

    Args:
        secret: Of the store; 16 to 64 bytes.
    """
    return blake2b(
        invocation_id.encode(), key=secret, digest_size=32, person=b"hf approval"
    ).digest()


def link_path(key: bytes, approval_id: str, assignee: str, expires_at_ms: int) -> str:
    """Return path and query of a signed link.

    Args:
        key: Of the invocation.
        approval_id: The approval that it opens.
        assignee: Who decides by it; empty: whoever has it.
        expires_at_ms: When it closes; 0: never.
    """
    return f"{ROUTE}/{approval_id}?token={sign(key, approval_id, assignee, expires_at_ms)}"


def sign(key: bytes, approval_id: str, assignee: str, expires_at_ms: int) -> str:
    """Return a token; for the arguments see `link_path`."""
    fields = (_VERSION, str(expires_at_ms), _print(assignee.encode()))
    return ".".join((*fields, _print(_mac(key, approval_id, fields))))


def open_link(key: bytes, approval_id: str, token: str, at_ms: int) -> str:
    """Return who decides by a token; empty: whoever has it.

    Raises:
        LinkError: It is forged, for another approval, or expired.
    """
    fields = tuple(token.split(".")) if len(token) <= _TOKEN_LENGTH_MAX else ()
    if len(fields) != 4 or not token.isascii():
        raise LinkError("it is no token")
    *signed, mac = fields
    expected = _print(_mac(key, approval_id, tuple(signed)))
    if not hmac.compare_digest(mac, expected):
        raise LinkError("it was not made for this approval by this server")
    # Only what was signed is looked at, so it is well-formed from here on.
    if signed[0] != _VERSION:
        raise LinkError("it is of another version")
    expires_at_ms = int(signed[1])
    if 0 < expires_at_ms <= at_ms:
        raise LinkError("it has expired", is_expired=True)
    try:
        return urlsafe_b64decode(signed[2] + "==").decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise LinkError("it is no token") from error


def _mac(key: bytes, approval_id: str, fields: tuple[str, ...]) -> bytes:
    # No field has a space, so two different lists of fields never look alike.
    message = " ".join((approval_id, *fields)).encode()
    return blake2b(message, key=key, digest_size=_MAC_SIZE).digest()


def _print(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()
