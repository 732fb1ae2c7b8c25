"""What several of these tests start from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import APPS, Holdfast, Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def basics(tmp_path: Path, ledger: Ledger) -> Iterator[Holdfast]:
    """`apps/basics.py`; not started yet."""
    with Holdfast(tmp_path, f"{APPS / 'basics.py'}:app", ledger.env) as holdfast:
        yield holdfast


@pytest.fixture
def dev(basics: Holdfast) -> Holdfast:
    """`apps/basics.py` under `holdfast dev`."""
    basics.dev("--no-reload")
    return basics
