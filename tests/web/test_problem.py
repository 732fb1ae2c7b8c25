from __future__ import annotations

import pytest

from holdfast.domain.errors import (
    ConflictError,
    CorruptState,
    HoldfastError,
    NotFoundError,
    StorageUnavailable,
    TransportError,
    UsageError,
)
from holdfast.domain.target import Target
from holdfast.server.handle import Overloaded
from holdfast.web.problem import (
    Refusal,
    error_headers,
    method_refusal,
    shown,
    status_of,
    unexpected_error,
)

JSON = (b"content-type", b"application/json")
RETRY = (b"retry-after", b"1")


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (Refusal(431, "HF1017", "Too large."), 431, [JSON]),
        (Refusal(415, "HF1027", "No.", headers=((b"a", b"b"),)), 415, [JSON, (b"a", b"b")]),
        (Refusal(503, "HF1052", "Stopping."), 503, [JSON, RETRY]),
        (NotFoundError("None."), 404, [JSON]),
        (ConflictError("Done."), 409, [JSON]),
        (UsageError("No."), 400, [JSON]),
        (Overloaded(Target("Cart", "add", "k")), 429, [JSON, RETRY]),
        (StorageUnavailable("No leader."), 503, [JSON, RETRY]),
        (TransportError("No worker."), 503, [JSON, RETRY]),
        (CorruptState("Rows contradict."), 500, [JSON]),
        (unexpected_error(), 500, [JSON]),
    ],
)
def test_errors_have_status_and_headers(
    error: HoldfastError, status: int, headers: list[tuple[bytes, bytes]]
) -> None:
    assert status_of(error) == status
    assert error_headers(error, status) == headers


def test_headers_of_one_response_are_not_those_of_another() -> None:
    error_headers(NotFoundError("None."), 404).append((b"a", b"b"))
    assert error_headers(NotFoundError("None."), 404) == [JSON]


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a", "'a'"),
        ("a\r\n", r"'a\r\n'"),
        ("x" * 80, repr("x" * 80)),
        ("x" * 81, repr("x" * 80) + "… (81 characters)"),
    ],
)
def test_shows_what_clients_sent(text: str, quoted: str) -> None:
    assert shown(text) == quoted


def test_refused_methods_name_those_that_will_do() -> None:
    refusal = method_refusal("PUT", "GET, OPTIONS")
    assert (refusal.status, refusal.code) == (405, "HF1007")
    assert refusal.headers == ((b"allow", b"GET, OPTIONS"),)
