"""Runs the matrix: `python -m tests.ai.matrix [ROW…]`. Fails if a row fails."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from .row import HERE, ROOT, ROWS, Row

OLDER_THAN_US = ("-W", "ignore::DeprecationWarning", "-W", "ignore::PendingDeprecationWarning")
"""Old versions on new libraries warn about themselves."""


def main(names: list[str]) -> int:
    """Run the named rows, or all, and print a table."""
    if unknown := set(names) - set(ROWS):
        print(f"no row {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}", file=sys.stderr)
        return 2
    results: list[tuple[Row, str, float]] = []
    for row in [ROWS[name] for name in names] or ROWS.values():
        print(f"== {row.name} ({row.framework.package} {row.version})", flush=True)
        begun_s = perf_counter()
        result = _run(row)
        results.append((row, result, perf_counter() - begun_s))
    print(f"\n{'row':24} {'version':12} {'result':22} seconds")
    for row, result, took_s in results:
        print(f"{row.name:24} {row.version:12} {result:22} {took_s:7.1f}")
    return int(any(result != "passed" for _, result, _ in results))


def _run(row: Row) -> str:
    """Make the environment of a row and run its tests there; return what came of it."""
    python = row.environment / "bin" / "python"
    if not _is_made(row, python):
        return "not installable"
    command = [python, "-m", "pytest", "-n0", "-p", "no:cacheprovider"]
    aged = OLDER_THAN_US if row.age == "lowest" else ()
    if _fails([*command, *aged, *row.framework.tests]):
        return "tests failed"
    if row.framework.is_typed_here and row.age == "newest" and _types_fail(python):
        return "types are wrong"
    return "passed"


def _is_made(row: Row, python: Path) -> bool:
    needed = [HERE / "requirements" / "tests.txt", row.requirements]
    content = b"\n".join(path.read_bytes() for path in [*needed, ROOT / "pyproject.toml"])
    stamp = row.environment / "holdfast-matrix"
    made_of = hashlib.sha256(content).hexdigest()
    if stamp.is_file() and stamp.read_text() == made_of:
        return True
    uv = Path(sys.executable).with_name("uv")
    if _fails([uv, "venv", "--quiet", "--clear", "--python", sys.executable, row.environment]):
        return False
    files = [argument for path in needed for argument in ("-r", path)]
    if _fails([uv, "pip", "install", "--quiet", "--python", python, *files, "-e", "."]):
        return False
    stamp.write_text(made_of)
    return True


def _types_fail(python: Path) -> bool:
    files = sorted((ROOT / "src/holdfast/ai/adk").glob("*.py"))
    mypy = [sys.executable, "-m", "mypy", "--python-executable", python, *files]
    pyright = [sys.executable, "-m", "pyright", "--warnings", "-p", HERE / "pyrightconfig.json"]
    return _fails(mypy) or _fails(pyright)


def _fails(command: list[str | Path]) -> bool:
    return subprocess.run(command, cwd=ROOT, check=False).returncode != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
