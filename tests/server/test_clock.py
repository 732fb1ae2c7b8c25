"""Time and randomness of the operating system."""

from __future__ import annotations

import os

import pytest

from holdfast.server.clock import SystemClock


def test_no_byte_is_handed_out_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = os.urandom

    def urandom(size: int) -> bytes:
        sizes.append(size)
        return real(size)

    monkeypatch.setattr(os, "urandom", urandom)
    clock = SystemClock()
    handed = [clock.entropy(12) for _ in range(1000)]
    assert len(set(handed)) == 1000
    assert {len(part) for part in handed} == {12}
    assert len(sizes) == 3, "4096 bytes are 341 times 12"


def test_more_than_a_page_is_given_at_once() -> None:
    assert len(SystemClock().entropy(10_000)) == 10_000


def test_a_forked_process_has_bytes_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SystemClock()
    clock.entropy(16)
    pool = clock._pool
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert clock.entropy(16) not in pool
