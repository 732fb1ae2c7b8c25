"""House style that no linter knows. Limits are ratchets: lower them, never raise them."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "holdfast"
PURE = ("domain", "engine", "protocol")

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
LONG_FILES: dict[str, int] = {}
"""Files that were longer when the limit came, and how long they may be."""


def sources() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_file_is_too_long() -> None:
    long = {
        name_of(path): count
        for path in sources()
        if (count := len(path.read_text().splitlines()))
        > LONG_FILES.get(name_of(path), FILE_LINES_MAX)
    }
    assert not long, f"files over {FILE_LINES_MAX} lines are two rooms in one: {long}"


def test_no_function_is_too_long() -> None:
    long = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                body = node.body
                has_docstring = isinstance(body[0], ast.Expr) and isinstance(
                    body[0].value, ast.Constant
                )
                first = body[0].end_lineno if has_docstring else node.lineno
                assert first is not None
                if node.end_lineno - first > FUNCTION_LINES_MAX:
                    long.append(f"{name_of(path)}:{node.lineno} {node.name}")
    assert not long, f"functions over {FUNCTION_LINES_MAX} lines: {long}"


def test_the_core_never_iterates_a_set() -> None:
    """String hashing differs per process, so the order of a set does too."""
    found = []
    for room in PURE:
        for path in sorted((SOURCE / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                loops = [node.iter] if isinstance(node, ast.For | ast.comprehension) else []
                for loop in loops:
                    is_set = isinstance(loop, ast.Set | ast.SetComp) or (
                        isinstance(loop, ast.Call)
                        and isinstance(loop.func, ast.Name)
                        and loop.func.id in ("set", "frozenset")
                    )
                    if is_set:
                        found.append(f"{name_of(path)}:{loop.lineno}")
    assert not found, f"sorted() these: {found}"


def test_file_names_are_singular_nouns_with_a_meaning() -> None:
    banned = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
    found = [name_of(path) for path in sources() if path.stem in banned]
    assert not found


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX"])
def test_nothing_is_left_for_later(word: str) -> None:
    pattern = re.compile(rf"#.*\b{word}\b")
    found = [name_of(path) for path in sources() if pattern.search(path.read_text())]
    assert not found, f"{word} belongs into an issue: {found}"


def test_nobody_unpickles_or_evaluates() -> None:
    banned = {"pickle", "marshal", "shelve"}
    found = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            is_eval = (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("eval", "exec")
            )
            if banned & {name.split(".")[0] for name in names} or is_eval:
                found.append(name_of(path))
    assert not found


def test_error_codes_have_pages_and_pages_have_codes() -> None:
    used = {code for path in sources() for code in re.findall(r"\bHF\d{4}\b", path.read_text())}
    pages = {path.stem for path in (ROOT / "docs" / "errors").glob("HF*.md")}
    assert used - pages == set(), "write docs/errors pages for these"
    assert pages - used == set(), "no code uses these pages"


def test_the_tree_names_no_machine_and_no_registry() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    pattern = re.compile(r"(?<![\w.])/(?:root|work)/|index-url|--extra-index")
    found = [
        name
        for name in listed
        if name != "tests/test_tidy.py"
        and (ROOT / name).is_file()
        and pattern.search((ROOT / name).read_text(errors="ignore"))
    ]
    assert not found


def test_changelog_fragments_are_named_by_kind() -> None:
    kinds = {"added", "changed", "deprecated", "removed", "fixed", "security"}
    fragments = [p for p in (ROOT / "changelog.d").iterdir() if p.name != "README.md"]
    assert fragments
    for fragment in fragments:
        assert fragment.suffixes[-1] == ".md"
        assert fragment.name.split(".")[-2] in kinds, fragment.name
