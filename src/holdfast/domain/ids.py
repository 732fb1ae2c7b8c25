"""Identifiers: how they are made, printed and parsed.

Printed form: prefix, format digit `1`, then base62 fields of fixed width (11 digits for 64 bits,
22 for 128 bits). The number that is printed is the field's big-endian bytes read as little endian;
this is the form that Restate's tools parse, so the same ids work there.

An invocation id is 24 bytes: 8 bytes partition key, 16 bytes unique part. The partition key decides
which partition owns the invocation, so an id alone is enough to route to it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import NewType

import xxhash

InvocationId = NewType("InvocationId", str)
"""Printed invocation id, `inv_1…`, 38 characters."""

DeploymentId = NewType("DeploymentId", str)
"""Printed deployment id, `dp_1…`, 26 characters."""

AwakeableId = NewType("AwakeableId", str)
"""Printed awakeable id, `sign_1…`: invocation id and signal index."""

_ALPHABET = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = {byte: value for value, byte in enumerate(_ALPHABET)}
_PAIRS = [bytes((high, low)) for high in _ALPHABET for low in _ALPHABET]

INVOCATION_PREFIX = "inv_1"
DEPLOYMENT_PREFIX = "dp_1"
AWAKEABLE_PREFIXES = ("sign_1", "prom_1")


class IdError(ValueError):
    """A printed id does not have the right prefix, length or alphabet."""


def _base62(field: bytes, width: int) -> str:
    number = int.from_bytes(field, "little")
    digits: list[bytes] = []
    for _ in range(width // 2):
        number, rest = divmod(number, 3844)
        digits.append(_PAIRS[rest])
    if width % 2:
        digits.append(_ALPHABET[number : number + 1])
    digits.reverse()
    return b"".join(digits).decode()


def _unbase62(text: str, size: int) -> bytes:
    number = 0
    try:
        for byte in text.encode("ascii"):
            number = number * 62 + _DIGITS[byte]
        return number.to_bytes(size, "little")
    except (KeyError, OverflowError, UnicodeEncodeError):
        raise IdError(f"{text!r} is not a base62 number of {size} bytes") from None


def print_invocation_id(binary: bytes) -> InvocationId:
    """Print 24 bytes as `inv_1…`."""
    return InvocationId(INVOCATION_PREFIX + _base62(binary[:8], 11) + _base62(binary[8:], 22))


def parse_invocation_id(text: str) -> bytes:
    """Return the 24 bytes of a printed invocation id.

    Raises:
        IdError: Wrong prefix, length or alphabet.
    """
    if not text.startswith(INVOCATION_PREFIX) or len(text) != 38:
        raise IdError(f"{text!r} is not an invocation id: expected inv_1 and 33 more characters")
    return _unbase62(text[5:16], 8) + _unbase62(text[16:], 16)


def invocation_partition_key(invocation_id: str) -> int:
    """Return the 64-bit partition key inside a printed invocation id."""
    return int.from_bytes(_unbase62(invocation_id[5:16], 8), "big")


def print_deployment_id(binary: bytes) -> DeploymentId:
    """Print 16 bytes as `dp_1…`."""
    return DeploymentId(DEPLOYMENT_PREFIX + _base62(binary, 22))


def parse_deployment_id(text: str) -> bytes:
    """Return the 16 bytes of a printed deployment id.

    Raises:
        IdError: Wrong prefix, length or alphabet.
    """
    if not text.startswith(DEPLOYMENT_PREFIX) or len(text) != len(DEPLOYMENT_PREFIX) + 22:
        raise IdError(f"{text!r} is not a deployment id: expected dp_1 and 22 more characters")
    return _unbase62(text[len(DEPLOYMENT_PREFIX) :], 16)


def deployment_id_of(name: str) -> DeploymentId:
    """Return the id of the worker deployment with this name: a pure function of the name."""
    return print_deployment_id(hashlib.sha256(b"worker," + name.encode()).digest()[:16])


def awakeable_id(invocation_id: str, signal_index: int) -> AwakeableId:
    """Return the id under which the outside completes one signal of an invocation."""
    binary = parse_invocation_id(invocation_id) + signal_index.to_bytes(4, "big")
    return AwakeableId("sign_1" + base64.urlsafe_b64encode(binary).decode().rstrip("="))


def parse_awakeable_id(text: str) -> tuple[InvocationId, int]:
    """Return (invocation id, signal index) of an awakeable id.

    Raises:
        IdError: Wrong prefix, length or alphabet.
    """
    prefix = next((p for p in AWAKEABLE_PREFIXES if text.startswith(p)), None)
    if prefix is None or len(text) != 44:
        raise IdError(f"{text!r} is not an awakeable id: expected sign_1 and 38 more characters")
    try:
        binary = base64.b64decode(text[6:] + "==", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise IdError(f"{text!r} is not an awakeable id: not base64url") from None
    return print_invocation_id(binary[:24]), int.from_bytes(binary[24:], "big")


def ulid(at_ms: int, entropy: bytes) -> bytes:
    """Return 16 bytes that sort by time: 48 bits of milliseconds, 80 bits of `entropy`."""
    return at_ms.to_bytes(6, "big") + entropy[:10]


def key_partition_key(key: str) -> int:
    """Return the partition key of everything that belongs to one object or workflow key."""
    return xxhash.xxh3_64_intdigest(key.encode() + b"\xff")


def service_partition_key(service: str, bucket: int) -> int:
    """Return the partition key of an unkeyed invocation that landed in `bucket` (0..511)."""
    return xxhash.xxh3_64_intdigest(
        service.encode() + b"\xffunscoped/service\xff" + bucket.to_bytes(8, "little")
    )


def idempotency_bucket(idempotency_key: str) -> int:
    """Return the bucket (0..511) that an idempotency key of an unkeyed target falls into."""
    return xxhash.xxh3_64_intdigest(idempotency_key.encode() + b"\xff") % 512


def idempotent_unique_part(
    service: str, key: str | None, handler: str, idempotency_key: str
) -> bytes:
    """Return the 16-byte unique part that makes equal requests the same invocation."""
    parts = ["ik", service, *([] if key is None else [key]), handler, idempotency_key]
    return hashlib.sha256(",".join(parts).encode()).digest()[:16]


def random_seed(invocation_id: str) -> int:
    """Return the 64-bit seed of an invocation's deterministic randomness: stable over attempts."""
    digest = hashlib.sha256(b"seed," + invocation_id.encode()).digest()
    return int.from_bytes(digest[:8], "big")


def partition_of(partition_key: int, partition_count: int) -> int:
    """Return the partition that owns a key: equal ranges of the 64-bit key space."""
    return (partition_key * partition_count) >> 64
