"""README does what it shows."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from .document import ROOT, blocks, run_document

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="the documents use curl")

TESTED = [
    "README.md",
    "docs/tutorial/first-agent.md",
    *(f"docs/howto/{path.name}" for path in sorted((ROOT / "docs" / "howto").glob("*.md"))),
    "docs/explanation/determinism.md",
    "docs/explanation/guarantees.md",
    "docs/explanation/state.md",
]


@pytest.mark.parametrize("name", TESTED)
def test_a_document_does_what_it_shows(name: str, tmp_path: Path) -> None:
    run_document(ROOT / name, tmp_path)


def test_make_has_the_targets_that_documents_name() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for document in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"`?make ([a-z]+)`?", (ROOT / document).read_text()):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{document}: make {target}"


def test_every_block_of_a_tested_document_is_marked() -> None:
    for name in TESTED:
        for block in blocks(ROOT / name):
            assert block.deed or block.language not in ("python", "sh"), f"{name}:\n{block.text}"
