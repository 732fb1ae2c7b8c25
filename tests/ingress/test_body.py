from __future__ import annotations

from typing import Any

import pytest

from holdfast.domain.target import HandlerKind, HandlerManifest
from holdfast.ingress.body import check_input, read_body
from holdfast.ingress.hangup import ClientGone
from holdfast.web.asgi import Message
from holdfast.web.problem import Refusal

SCHEMA: dict[str, object] = {"type": "string"}
JSON = "application/json"


def manifest(**options: Any) -> HandlerManifest:
    return HandlerManifest(name="greet", kind=HandlerKind.PLAIN, **options)


@pytest.mark.parametrize(
    ("options", "content_type", "body"),
    [
        ({}, JSON, b'"x"'),
        ({}, "application/json; charset=utf-8", b"1"),
        ({}, "Application/JSON", b"1"),
        ({"is_input_required": False}, None, b""),
        ({}, JSON, b""),
        ({"is_input_required": False}, JSON, b""),
        ({"is_input_required": False, "input_schema": SCHEMA}, None, b""),
        ({"is_input_required": False, "input_schema": SCHEMA}, JSON, b""),
        ({"input_content_type": ""}, None, b""),
        ({"input_content_type": "*/*"}, "text/plain", b""),
        ({"input_content_type": "*/*"}, "text/plain", b"{"),
        ({"input_content_type": "*/*", "is_input_required": False}, None, b""),
        ({"input_content_type": "image/*"}, "image/png", b"\x89"),
        ({"input_content_type": "text/plain"}, "text/plain", b"{"),
    ],
)
def test_accepts(options: dict[str, Any], content_type: str | None, body: bytes) -> None:
    check_input(manifest(**options), content_type, None, body)


@pytest.mark.parametrize(
    ("options", "content_type", "body", "code", "text"),
    [
        ({"input_schema": SCHEMA}, JSON, b"", "HF1020", "Handler greet needs input, and the body"),
        ({"input_schema": SCHEMA}, None, b"", "HF1020", "the body is empty"),
        ({}, None, b"", "HF1026", "none was sent"),
        ({"input_content_type": "*/*", "input_schema": SCHEMA}, "a/b", b"", "HF1020", "is empty"),
        ({"input_content_type": ""}, None, b"1", "HF1021", "takes no input; found a body of 1"),
        ({"input_content_type": ""}, JSON, b"", "HF1021", "found content-type 'application/json'"),
        ({}, JSON, b"{", "HF1022", "The body is not JSON"),
        ({}, None, b"1", "HF1026", "takes content-type application/json; none was sent"),
        ({}, "text/plain", b"1", "HF1026", "found 'text/plain'"),
        ({}, "json", b"1", "HF1026", "found 'json'"),
        ({}, "", b"1", "HF1026", "found ''"),
        ({"is_input_required": False}, "text/plain", b"", "HF1026", "found 'text/plain'"),
        ({"input_content_type": "*/*"}, None, b"", "HF1026", "none was sent"),
        ({"input_content_type": "*/*"}, None, b"1", "HF1026", "none was sent"),
        ({"input_content_type": "image/*"}, "text/png", b"1", "HF1026", "takes content-type image"),
    ],
)
def test_refuses(
    options: dict[str, Any], content_type: str | None, body: bytes, code: str, text: str
) -> None:
    with pytest.raises(Refusal) as caught:
        check_input(manifest(**options), content_type, None, body)
    assert (caught.value.status, caught.value.code) == (400, code)
    assert text in caught.value.message


def test_refuses_compressed_json_only() -> None:
    with pytest.raises(Refusal, match="Content-Encoding 'gzip' is not supported") as caught:
        check_input(manifest(), JSON, "gzip", b"\x1f\x8b")
    assert (caught.value.status, caught.value.code) == (415, "HF1027")
    check_input(manifest(), JSON, "identity", b"1")
    check_input(manifest(input_content_type="*/*"), "x/y", "gzip", b"\x1f\x8b")


class Parts:
    """An ASGI receive that hands out what a test gives it."""

    def __init__(self, *parts: bytes | None) -> None:
        """None is a disconnect."""
        self.parts = list(parts)

    async def __call__(self) -> Message:
        part = self.parts.pop(0)
        if part is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": part, "more_body": bool(self.parts)}


async def test_joins_parts() -> None:
    assert await read_body(Parts(b"ab", b"", b"c"), 3, 3) == b"abc"
    assert await read_body(Parts(b"ab", b"c"), None, 3) == b"abc"
    assert await read_body(Parts(b""), None, 3) == b""


@pytest.mark.parametrize("parts", [[None], [b"a", None], [b"a", b"b", None]])
async def test_a_cut_body_is_not_a_body(parts: list[bytes | None]) -> None:
    with pytest.raises(ClientGone):
        await read_body(Parts(*parts), None, 9)


@pytest.mark.parametrize(
    ("declared", "parts", "unread", "text"),
    [
        (4, [b"abcd"], 1, "has 4 bytes; at most 3"),
        (None, [b"abcd"], 0, "has 4 bytes; at most 3"),
        (None, [b"ab", b"cd", b"ef"], 1, "has more than 3 bytes; at most 3"),
        (3, [b"ab", b"cd"], 0, "has 4 bytes; at most 3"),
    ],
)
async def test_refuses_large_bodies_as_soon_as_it_knows(
    declared: int | None, parts: list[bytes], unread: int, text: str
) -> None:
    receive = Parts(*parts)
    with pytest.raises(Refusal) as caught:
        await read_body(receive, declared, 3)
    assert (caught.value.status, caught.value.code) == (413, "HF1028")
    assert text in caught.value.message
    assert caught.value.is_body_unread
    assert len(receive.parts) == unread


@pytest.mark.parametrize("declared", [0, 2, 9])
async def test_refuses_bodies_of_another_size_than_declared(declared: int) -> None:
    with pytest.raises(Refusal, match=f"says {declared} bytes, but 3 came") as caught:
        await read_body(Parts(b"abc"), declared, 10)
    assert (caught.value.status, caught.value.code) == (400, "HF1029")
