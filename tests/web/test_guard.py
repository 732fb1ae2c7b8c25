from __future__ import annotations

import pytest

from holdfast.web.guard import LOOPBACK_HOSTS, HostList


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("127.0.0.1", True),
        ("LocalHost:1", True),
        ("[::1]", True),
        ("[::1]:8080", True),
        ("tools.example:9", True),
        ("evil.example", False),
        ("localhost.evil.example:80", False),
        ("127.0.0.1:8080:80", False),
        ("127.0.0.1:", False),
        ("::1", False),
        ("", False),
    ],
)
def test_compares_names_without_port_and_case(host: str, is_allowed: bool) -> None:
    assert HostList([*LOOPBACK_HOSTS, "Tools.Example"]).allows(host) is is_allowed


def test_without_a_list_any_host_will_do() -> None:
    assert HostList(None).allows("evil.example")


def test_an_empty_list_allows_none() -> None:
    assert not HostList(()).allows("localhost")


def test_the_refusal_names_what_would_do() -> None:
    refusal = HostList(["b.example", "a.example"]).refusal("Evil.Example")
    assert (refusal.status, refusal.code) == (421, "HF1008")
    assert refusal.message == "Host 'Evil.Example' is not served here."
    assert refusal.hint.startswith("Use one of: a.example, b.example. ")
