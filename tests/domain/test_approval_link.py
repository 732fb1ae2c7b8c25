"""Signed links: what was changed opens nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.approval_link import (
    LinkError,
    invocation_key,
    link_path,
    open_link,
    sign,
)

SECRET = b"s" * 32
KEY = invocation_key(SECRET, "inv_1a")


def test_a_token_opens_its_approval_until_it_expires() -> None:
    token = sign(KEY, "sign_1x", "ann@example.com", 1_000)
    assert open_link(KEY, "sign_1x", token, 999) == "ann@example.com"
    with pytest.raises(LinkError, match="expired") as expired:
        open_link(KEY, "sign_1x", token, 1_000)
    assert expired.value.is_expired


def test_one_without_expiry_never_does() -> None:
    assert open_link(KEY, "sign_1x", sign(KEY, "sign_1x", "", 0), 2**60) == ""


def test_it_is_the_same_each_time() -> None:
    path = link_path(KEY, "sign_1x", "ann", 5)
    assert path == link_path(KEY, "sign_1x", "ann", 5)
    assert path.startswith("/holdfast/v1/approvals/sign_1x?token=1.5.")


def test_it_opens_nothing_else() -> None:
    token = sign(KEY, "sign_1x", "ann", 0)
    others = [invocation_key(SECRET, "inv_1b"), invocation_key(b"t" * 32, "inv_1a")]
    for key in others:
        with pytest.raises(LinkError):
            open_link(key, "sign_1x", token, 1)
    with pytest.raises(LinkError):
        open_link(KEY, "sign_1y", token, 1)


def test_other_people_and_later_times_cannot_be_written_into_it() -> None:
    version, expires, name, mac = sign(KEY, "sign_1x", "ann", 1_000).split(".")
    bob = sign(KEY, "sign_1x", "bob", 1_000).split(".")[2]
    for forged in (
        [version, "9000", name, mac],
        [version, expires, bob, mac],
        ["2", expires, name, mac],
        [version, expires, name],
        [version, expires, name, mac, ""],
        [version, expires, name, ""],
    ):
        with pytest.raises(LinkError) as refused:
            open_link(KEY, "sign_1x", ".".join(forged), 1)
        assert not refused.value.is_expired


@given(st.text(max_size=60))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(LinkError):
        open_link(KEY, "sign_1x", text, 1)


@given(st.text(max_size=40), st.integers(0, 2**52))
def test_any_name_comes_back(name: str, expires_at_ms: int) -> None:
    if any(0xD800 <= ord(mark) < 0xE000 for mark in name):
        return
    token = sign(KEY, "sign_1x", name, expires_at_ms)
    assert token.isascii()
    if expires_at_ms != 0:
        assert open_link(KEY, "sign_1x", token, expires_at_ms - 1) == name


@given(st.integers(0, 200), st.characters(codec="ascii"))
def test_no_single_change_is_overlooked(place: int, mark: str) -> None:
    token = sign(KEY, "sign_1x", "ann", 1_000)
    place %= len(token)
    changed = token[:place] + mark + token[place + 1 :]
    if changed != token:
        with pytest.raises(LinkError):
            open_link(KEY, "sign_1x", changed, 1)
