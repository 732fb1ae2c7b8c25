"""Every code that the source names has a page, every page a code, and the index has them all."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "holdfast"
PAGES = ROOT / "docs" / "errors"


def codes_in_source() -> dict[str, set[str]]:
    """Return the files that name each code."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in sorted(SOURCE.rglob("*.py")):
        for code in re.findall(r"\bHF[0-9]{4}\b", path.read_text()):
            found[code].add(str(path.relative_to(SOURCE)))
    return found


def pages() -> dict[str, str]:
    return {path.stem: path.read_text() for path in PAGES.glob("HF*.md")}


def test_every_code_has_a_page() -> None:
    have = pages()
    missing = [
        f"docs/errors/{code}.md is missing; {code} is named in {', '.join(sorted(files))}"
        for code, files in sorted(codes_in_source().items())
        if code not in have
    ]
    assert not missing, "\n" + "\n".join(missing)


def test_every_page_has_a_code() -> None:
    used = codes_in_source()
    stale = [f"docs/errors/{code}.md: nothing names {code}" for code in pages() if code not in used]
    assert not stale, "\n" + "\n".join(sorted(stale))


def test_pages_say_what_they_should() -> None:
    for code, text in pages().items():
        assert re.match(rf"# {code}: \S", text), f"{code}.md: begin with `# {code}: title`"
        for heading in ("What happened", "Example", "What to do"):
            assert f"## {heading}\n" in text, f"{code}.md has no section {heading!r}"


def test_the_index_lists_every_page() -> None:
    index = (PAGES / "README.md").read_text()
    listed = re.findall(r"^\| \[(HF[0-9]{4})\]\(\1\.md\) \| (.+) \|$", index, re.MULTILINE)
    titles = {code: text.splitlines()[0].partition(": ")[2] for code, text in pages().items()}
    assert dict(listed) == titles, "docs/errors/README.md and the titles of the pages differ"
    assert [code for code, _ in listed] == sorted(titles), "docs/errors/README.md is not in order"
