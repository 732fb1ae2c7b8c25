"""Request identity: a server proves to handlers that a request is from it.

The server signs each request with an Ed25519 key; handlers know the public key, as text
`publickeyv1_` + base58 of its 32 bytes. A signature is a compact JWT (RFC 7519, EdDSA of RFC 8037)
about the path of the request, valid for a minute on both sides of its making. This is Restate's
scheme `v1`; both sides of it work with their software.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from holdfast.domain.errors import HoldfastError, UsageError

SCHEME_HEADER = "x-restate-signature-scheme"
TOKEN_HEADER = "x-restate-jwt-v1"
SCHEME = "v1"
PUBLIC_KEY_PREFIX = "publickeyv1_"
WINDOW_S = 60
"""A token is valid this long before and after the time of its making, in seconds."""

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_KEY_SIZE_BYTES = 32


class IdentityError(HoldfastError):
    """A request does not prove that it is from a server that is trusted. Answer 401."""

    code = "HF1370"


class _Header(msgspec.Struct):
    typ: str
    alg: str
    kid: str


class _Claims(msgspec.Struct, omit_defaults=True):
    aud: str
    iat: int
    nbf: int
    exp: int
    sub: str | None = None


class Signer:
    """Signs requests of one server.

    Args:
        pem: The private key, PKCS #8 PEM, Ed25519.

    Raises:
        UsageError: HF1371, it is no such key.
    """

    def __init__(self, pem: bytes) -> None:
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _bad_private_key(str(error)) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise _bad_private_key(f"it is a key of another kind, {type(key).__name__}")
        self._key = key
        self.public_key = print_public_key(key.public_key().public_bytes_raw())
        """As text, for the handlers."""
        header = _Header("JWT", "EdDSA", self.public_key)
        self._header = _base64(msgspec.json.encode(header))

    def headers(self, path: str, at_s: int, key: str | None = None) -> list[tuple[str, str]]:
        """Return the headers that sign a request.

        Args:
            path: Without the prefix under which the handlers are mounted, and without query:
                `/discover` or `/invoke/SERVICE/HANDLER`.
            at_s: Now, in seconds since the epoch.
            key: Of the object, for handlers with one.
        """
        claims = _Claims(path, at_s, at_s - WINDOW_S, at_s + WINDOW_S, key)
        signed = self._header + b"." + _base64(msgspec.json.encode(claims))
        token = signed + b"." + _base64(self._key.sign(signed))
        return [(SCHEME_HEADER, SCHEME), (TOKEN_HEADER, token.decode())]


class Verifier:
    """Knows which servers may send requests.

    Args:
        public_keys: As text.

    Raises:
        UsageError: HF1372, one of them is no public key.
    """

    def __init__(self, public_keys: Sequence[str]) -> None:
        self._keys = {text: parse_public_key(text) for text in public_keys}

    def check(self, headers: Mapping[str, str], path: str, at_s: int) -> None:
        """Accept a request, or raise.

        Args:
            headers: With names in lower case.
            path: As received; what is in front of the last parts is not looked at, so that
                handlers can be mounted anywhere.
            at_s: Now, in seconds since the epoch.

        Raises:
            IdentityError: HF1370, with the reason.
        """
        scheme = headers.get(SCHEME_HEADER)
        if scheme != SCHEME:
            raise IdentityError(
                "The request is not signed"
                if scheme in (None, "unsigned")
                else f"The request has the signature scheme {scheme!r}, expected {SCHEME!r}",
                hint="Give the server the private key that belongs to a trusted public key.",
            )
        header, claims, signed, signature = _parse_token(headers.get(TOKEN_HEADER, ""))
        key = self._keys.get(header.kid)
        if header.alg != "EdDSA" or key is None:
            raise IdentityError(
                f"The request is signed with the key {header.kid[:80]!r}, which is not trusted",
                hint="Trusted are: " + ", ".join(self._keys),
            )
        try:
            key.verify(signature, signed)
        except InvalidSignature:
            raise IdentityError("The signature of the request is wrong") from None
        if not claims.nbf <= at_s <= claims.exp:
            raise IdentityError(
                f"The signature was valid from {claims.nbf} to {claims.exp}, and now is {at_s}",
                hint="Set the clocks of both machines.",
            )
        if claims.aud != signed_path(path):
            raise IdentityError(
                f"The signature is for {claims.aud}, and the request for {signed_path(path)}"
            )


class _Token(NamedTuple):
    header: _Header
    claims: _Claims
    signed: bytes
    signature: bytes


def _parse_token(token: str) -> _Token:
    try:
        header, claims, signature = token.encode("ascii").split(b".")
        return _Token(
            msgspec.json.decode(_unbase64(header), type=_Header),
            msgspec.json.decode(_unbase64(claims), type=_Claims),
            header + b"." + claims,
            _unbase64(signature),
        )
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise IdentityError(f"The signature of the request cannot be read: {error}") from error


def signed_path(path: str) -> str:
    """Return the part of a request's path that is signed."""
    parts = path.split("/")
    # First, as where requests are served: a handler may be called `discover`.
    if len(parts) >= 4 and parts[-3] == "invoke":
        return "/" + "/".join(parts[-3:])
    if parts[-1] == "discover":
        return "/discover"
    return path


def print_public_key(raw: bytes) -> str:
    """Print the 32 bytes of a public key."""
    number = int.from_bytes(raw, "big")
    digits = ""
    while number:
        number, rest = divmod(number, 58)
        digits = _ALPHABET[rest] + digits
    # Zero bytes in front have no digits in the number: base58 writes a 1 for each.
    zeros = len(raw) - len(raw.lstrip(b"\0"))
    return PUBLIC_KEY_PREFIX + _ALPHABET[0] * zeros + digits


def parse_public_key(text: str) -> Ed25519PublicKey:
    """Read a public key.

    Raises:
        UsageError: HF1372, it is none.
    """
    digits = text.removeprefix(PUBLIC_KEY_PREFIX)
    try:
        number = 0
        for digit in digits:
            number = number * 58 + _ALPHABET.index(digit)
        raw = number.to_bytes(_KEY_SIZE_BYTES, "big")
    except (ValueError, OverflowError):
        raw = b""
    # Printed again it must be the same, or the text had another length than it should.
    if not raw or print_public_key(raw) != text:
        raise UsageError(
            f"{text!r} is not the public key of a server",
            code="HF1372",
            hint=f"Expected {PUBLIC_KEY_PREFIX} and the base58 form of 32 bytes.",
        )
    return Ed25519PublicKey.from_public_bytes(raw)


def _bad_private_key(why: str) -> UsageError:
    return UsageError(
        f"The key that should sign requests cannot be used: {why}",
        code="HF1371",
        hint="Make one with: openssl genpkey -algorithm ed25519 -out private.pem",
    )


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _unbase64(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
