from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from holdfast.domain.errors import UsageError
from holdfast.protocol.identity import (
    SCHEME_HEADER,
    TOKEN_HEADER,
    IdentityError,
    Signer,
    Verifier,
    parse_public_key,
    print_public_key,
    signed_path,
)

NOW_S = 1_800_000_000
PATH = "/invoke/Greeter/greet"


def pem_of(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture
def signer() -> Signer:
    return Signer(pem_of(ed25519.Ed25519PrivateKey.generate()))


def signed(signer: Signer, path: str = PATH) -> dict[str, str]:
    return dict(signer.headers(path, NOW_S))


def test_what_one_signs_the_other_accepts(signer: Signer) -> None:
    verifier = Verifier([signer.public_key])
    verifier.check(signed(signer), PATH, NOW_S)
    verifier.check(signed(signer), f"/mounted/here{PATH}", NOW_S)
    verifier.check(signed(signer, "/discover"), "/v1/discover", NOW_S)
    verifier.check(dict(signer.headers(PATH, NOW_S, key="a key")), PATH, NOW_S)


def test_one_of_several_keys(signer: Signer) -> None:
    other = Signer(pem_of(ed25519.Ed25519PrivateKey.generate()))
    Verifier([other.public_key, signer.public_key]).check(signed(signer), PATH, NOW_S)
    with pytest.raises(IdentityError, match="not trusted"):
        Verifier([other.public_key]).check(signed(signer), PATH, NOW_S)


@pytest.mark.parametrize("late_s", [-60, 0, 60])
def test_within_its_minute(signer: Signer, late_s: int) -> None:
    Verifier([signer.public_key]).check(signed(signer), PATH, NOW_S + late_s)


@pytest.mark.parametrize("late_s", [-61, 61])
def test_too_early_and_too_late(signer: Signer, late_s: int) -> None:
    with pytest.raises(IdentityError, match=r"valid from .* \[HF1370\]"):
        Verifier([signer.public_key]).check(signed(signer), PATH, NOW_S + late_s)


def test_another_path(signer: Signer) -> None:
    with pytest.raises(IdentityError, match="for /invoke/Greeter/greet, and"):
        Verifier([signer.public_key]).check(signed(signer), "/invoke/Greeter/other", NOW_S)


@pytest.mark.parametrize("headers", [{}, {SCHEME_HEADER: "unsigned"}, {SCHEME_HEADER: "v2"}])
def test_unsigned(signer: Signer, headers: dict[str, str]) -> None:
    with pytest.raises(IdentityError, match="The request"):
        Verifier([signer.public_key]).check(headers, PATH, NOW_S)


@pytest.mark.parametrize("token", ["", "a.b", "a.b.c", "....", "é.b.c", "e30.e30.AA", "!!.e30.AA"])
def test_garbage(signer: Signer, token: str) -> None:
    headers = {SCHEME_HEADER: "v1", TOKEN_HEADER: token}
    with pytest.raises(IdentityError, match="cannot be read"):
        Verifier([signer.public_key]).check(headers, PATH, NOW_S)


def test_changed_claims(signer: Signer) -> None:
    mine, other = signed(signer), signed(signer, "/invoke/Greeter/other")
    header, _, signature = mine[TOKEN_HEADER].split(".")
    claims = other[TOKEN_HEADER].split(".")[1]
    forged = {SCHEME_HEADER: "v1", TOKEN_HEADER: f"{header}.{claims}.{signature}"}
    with pytest.raises(IdentityError, match="signature of the request is wrong"):
        Verifier([signer.public_key]).check(forged, "/invoke/Greeter/other", NOW_S)


@pytest.mark.parametrize("raw", [bytes(32), b"\0\0" + b"\xff" * 30, bytes(range(32))])
def test_public_keys_print_and_parse(raw: bytes) -> None:
    assert parse_public_key(print_public_key(raw)).public_bytes_raw() == raw


@pytest.mark.parametrize("text", ["", "publickeyv1_", "publickeyv1_0", "publickeyv1_2", "x" * 44])
def test_bad_public_keys(text: str) -> None:
    with pytest.raises(UsageError, match="HF1372"):
        Verifier([text])


@pytest.mark.parametrize("pem", [b"", b"nonsense", pem_of(ec.generate_private_key(ec.SECP256R1()))])
def test_bad_private_keys(pem: bytes) -> None:
    with pytest.raises(UsageError, match="HF1371"):
        Signer(pem)


def test_what_is_signed_of_a_path() -> None:
    assert signed_path("/a/b/invoke/S/h") == "/invoke/S/h"
    assert signed_path("/a/discover") == "/discover"
    assert signed_path("/health") == "/health"
    assert signed_path("/invoke/S/discover") == "/invoke/S/discover"
    assert signed_path("/a/invoke/S/discover") == "/invoke/S/discover"


def test_a_handler_called_discover_has_a_signature_of_its_own(signer: Signer) -> None:
    verifier = Verifier([signer.public_key])
    path = "/mounted/invoke/Finder/discover"
    verifier.check(signed(signer, "/invoke/Finder/discover"), path, NOW_S)
    # What was signed to ask what is served must not run anything.
    with pytest.raises(IdentityError, match="for /discover, and"):
        verifier.check(signed(signer, "/discover"), path, NOW_S)
