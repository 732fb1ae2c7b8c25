"""Which files are watched, and when a change is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from holdfast.cli import watch as module
from holdfast.cli.watch import Snapshot, scan, watch


def test_python_files_of_the_project_are_watched(tmp_path: Path) -> None:
    for name in ("a.py", "b.txt", "sub/c.py", ".venv/d.py", "__pycache__/e.py", "venv/f.py"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("")
    found = {str(Path(path).relative_to(tmp_path)) for path in scan(tmp_path)}
    assert found == {"a.py", "sub/c.py"}
    assert scan(tmp_path / "nowhere") == {}


def test_a_file_that_was_written_differs(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("1")
    before = scan(tmp_path)
    file.write_text("22")
    assert scan(tmp_path) != before


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("seen", "told_count"),
    [
        ("aaaa", 0),
        ("aabb", 1),
        ("aabcdd", 1),
        ("abab", 0),
        ("abba", 1),
        ("abbaa", 2),
        ("abbccc", 2),
        ("abcdef", 0),
        ("bb", 1),
    ],
)
async def test_a_change_is_told_once_and_when_it_is_over(
    seen: str, told_count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = list(seen)
    told: list[None] = []
    is_over = asyncio.Event()
    loop = asyncio.get_running_loop()

    def next_snapshot(_: Path) -> Snapshot:
        if not snapshots:
            loop.call_soon_threadsafe(is_over.set)
            raise asyncio.CancelledError
        return {snapshots.pop(0): (0, 0)}

    monkeypatch.setattr(module, "scan", next_snapshot)
    known = {"a": (0, 0)}
    task = asyncio.create_task(watch(Path(), known, lambda: told.append(None), interval_s=0.0))
    async with asyncio.timeout(10):
        await is_over.wait()
    await asyncio.gather(task, return_exceptions=True)
    assert len(told) == told_count
