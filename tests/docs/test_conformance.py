"""The tests that hold Holdfast to Restate's protocols are those that the page names."""

from __future__ import annotations

import re

from .document import ROOT

PAGE = ROOT / "docs" / "reference" / "wire-conformance.md"
NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def test_every_test_that_is_named_exists() -> None:
    named = NAMED.findall(PAGE.read_text())
    assert len(named) > 100
    missing = []
    for path, name in named:
        file = ROOT / "tests" / path
        if not file.exists() or not re.search(rf"^(async )?def {name}\(", file.read_text(), re.M):
            missing.append(f"{path}::{name}")
    assert missing == []


def test_every_row_names_a_test() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    assert [row for row in rows if not NAMED.search(row) and "what must hold" not in row] == []


def test_every_test_of_the_wire_is_named() -> None:
    named = set(NAMED.findall(PAGE.read_text()))
    there = {
        (f"transport/http/{file.name}", name)
        for file in (ROOT / "tests" / "transport" / "http").glob("test_wire_*.py")
        for name in re.findall(r"^async def (test_\w+)\(", file.read_text(), re.M)
    }
    assert there - named == set()
