from __future__ import annotations

import pytest

from holdfast.admin.guard import Guard
from holdfast.web.guard import LOOPBACK_HOSTS
from holdfast.web.problem import Refusal
from tests.ingress.fake import scope_of

GUARD = Guard(LOOPBACK_HOSTS, ["https://tools.example"])
HOST = ("host", "127.0.0.1:9070")


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("PATCH", [HOST]),
        ("PATCH", [HOST, ("origin", "http://127.0.0.1:9070")]),
        ("PATCH", [HOST, ("origin", "https://127.0.0.1:9070"), ("sec-fetch-site", "same-origin")]),
        ("PATCH", [HOST, ("origin", "https://tools.example"), ("sec-fetch-site", "cross-site")]),
        ("PATCH", [("host", "[::1]:9070"), ("origin", "http://[::1]:9070")]),
        ("PATCH", [("host", "LOCALHOST:9070"), ("origin", "http://localhost:9070")]),
        ("PATCH", [("host", "")]),
        ("GET", [HOST, ("origin", "http://evil.example")]),
        ("GET", [HOST, ("sec-fetch-site", "cross-site")]),
    ],
)
def test_passes(method: str, headers: list[tuple[str, str]]) -> None:
    GUARD.check(scope_of(method, "/x", headers))


@pytest.mark.parametrize("method", ["GET", "PATCH", "OPTIONS"])
@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:9070", "[::1]x", "0.0.0.0"]
)
def test_refuses_foreign_hosts(method: str, host: str) -> None:
    with pytest.raises(Refusal, match="is not served here") as caught:
        GUARD.check(scope_of(method, "/x", [("host", host)]))
    assert (caught.value.status, caught.value.code) == (421, "HF1008")


@pytest.mark.parametrize("method", ["PATCH", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [
        [HOST, ("origin", "http://evil.example")],
        [HOST, ("origin", "null")],
        [HOST, ("origin", "http://127.0.0.1:8080")],
        [HOST, ("origin", "http://127.0.0.1:9070.evil.example")],
        [HOST, ("sec-fetch-site", "cross-site")],
        [HOST, ("origin", "http://127.0.0.1:9070"), ("sec-fetch-site", "cross-site")],
    ],
)
def test_refuses_foreign_pages(method: str, headers: list[tuple[str, str]]) -> None:
    with pytest.raises(Refusal, match="web page of another origin") as caught:
        GUARD.check(scope_of(method, "/x", headers))
    assert (caught.value.status, caught.value.code) == (403, "HF1009")


def test_refuses_websockets_of_foreign_pages() -> None:
    headers = [HOST, ("origin", "http://evil.example")]
    with pytest.raises(Refusal, match="another origin"):
        GUARD.check(scope_of("GET", "/x", headers, kind="websocket"))


def test_without_a_list_any_host_will_do_but_not_any_page() -> None:
    guard = Guard(None)
    guard.check(scope_of("PATCH", "/x", [("host", "server.example")]))
    headers = [("host", "server.example"), ("origin", "http://evil.example")]
    with pytest.raises(Refusal):
        guard.check(scope_of("PATCH", "/x", headers))
