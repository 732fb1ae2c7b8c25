from __future__ import annotations

import pytest

from holdfast.ingress.guard import Guard, hosts_allowed
from holdfast.web.guard import LOOPBACK_HOSTS
from holdfast.web.problem import Refusal


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8080",
        "localhost",
        "LocalHost:1",
        "[::1]",
        "[::1]:8080",
        "tools.example:9",
    ],
)
def test_serves_its_own_names(host: str) -> None:
    guard = Guard([*LOOPBACK_HOSTS, "Tools.Example"])
    for _ in range(2):
        guard.check_host(host.encode())


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example:80",
        "127.0.0.1:8080:80",
        "127.0.0.1:",
        "127.0.0.1:http",
        "[::1",
        "::1",
        "",
        "\xff",
    ],
)
def test_refuses_foreign_hosts(host: str) -> None:
    guard = Guard(LOOPBACK_HOSTS)
    for _ in range(2):
        with pytest.raises(Refusal, match="is not served here") as caught:
            guard.check_host(host.encode("latin-1"))
        assert (caught.value.status, caught.value.code) == (421, "HF1008")
        assert "127.0.0.1" in caught.value.hint


def test_without_a_list_any_host_and_page_will_do() -> None:
    guard = Guard(None)
    guard.check_host(b"anything")
    guard.check_site(b"cross-site")


def test_refuses_pages_of_other_sites() -> None:
    guard = Guard(LOOPBACK_HOSTS)
    for site in (b"same-origin", b"same-site", b"none"):
        guard.check_site(site)
    with pytest.raises(Refusal, match="web page of another site") as caught:
        guard.check_site(b"cross-site")
    assert (caught.value.status, caught.value.code) == (403, "HF1009")


def test_many_hosts_do_not_fill_memory() -> None:
    guard = Guard(LOOPBACK_HOSTS)
    for index in range(2_000):
        with pytest.raises(Refusal):
            guard.check_host(f"h{index}.example".encode())
    guard.check_host(b"localhost")
    verdicts: dict[bytes, bool] = vars(guard)["_verdicts"]
    assert len(verdicts) <= 256


@pytest.mark.parametrize(
    ("bind_host", "configured", "expected"),
    [
        ("127.0.0.1", (), LOOPBACK_HOSTS),
        ("127.0.0.9", (), LOOPBACK_HOSTS),
        ("localhost", (), LOOPBACK_HOSTS),
        ("::1", (), LOOPBACK_HOSTS),
        ("[::1]", ("Tools.Example",), LOOPBACK_HOSTS | {"tools.example"}),
        ("0.0.0.0", (), None),
        ("10.0.0.1", ("tools.example",), {"tools.example"}),
        ("server.example", (), None),
    ],
)
def test_the_address_decides_which_hosts_are_allowed(
    bind_host: str, configured: tuple[str, ...], expected: frozenset[str] | None
) -> None:
    assert hosts_allowed(bind_host, configured) == expected
