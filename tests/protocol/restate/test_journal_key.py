from __future__ import annotations

import pytest

from holdfast.protocol.restate.journal_key import is_journal_key, name_in_key
from holdfast.sdk.branch import Branch


@pytest.mark.parametrize("path", ["", "Weather.check[0]", "a[0]/b[1]"])
@pytest.mark.parametrize("kind", ["run", "clear_all", "call"])
@pytest.mark.parametrize("name", ["", "fetch weather", "a:b#7", "#1", "größe", "two\nlines"])
def test_keys_of_branches_are_recognised_and_carry_their_name(
    path: str, kind: str, name: str
) -> None:
    branch = Branch(None, path)
    for _ in range(2):
        key = branch.key(kind, name)
        assert is_journal_key(key)
        assert name_in_key(key) == name


def test_a_slash_in_a_name_is_a_bar_in_the_key() -> None:
    assert name_in_key(Branch(None, "").key("run", "a/b")) == "a|b"


def test_output_has_a_key_without_name() -> None:
    assert is_journal_key("output#0")
    assert name_in_key("output#0") == ""


@pytest.mark.parametrize("name", ["", "fetch weather", "issue #12", "#1", ":x#1", "run:x", "run#²"])
def test_names_of_other_sdks_are_not_keys(name: str) -> None:
    assert not is_journal_key(name)
