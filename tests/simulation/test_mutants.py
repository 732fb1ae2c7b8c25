"""The simulation finds known bugs, each within few seeds."""

from __future__ import annotations

import pytest

from . import once_mutants as once_mutants
from . import prompt_mutants as prompt_mutants
from . import recall_mutants as recall_mutants
from . import teller_mutants as teller_mutants  # these add their own to the list
from . import wait_mutants as wait_mutants
from .checker import Violation
from .mutants import MUTANTS, planted
from .run import simulate

SEEDS_MAX = 60


def find(name: str) -> tuple[int, str]:
    """Return after how many seeds a bug is found, and by which invariant."""
    for seed in range(SEEDS_MAX):
        try:
            with planted(name):
                simulate(seed)
        except Violation as violation:
            return seed + 1, violation.invariant
    pytest.fail(f"{name} was not found within {SEEDS_MAX} seeds: {MUTANTS[name].__doc__}")


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_found(name: str) -> None:
    count, invariant = find(name)
    print(f"| `{name}` | {MUTANTS[name].__doc__} | {invariant} | {count} |")
    # The same seed without the bug: it was the bug that was found.
    simulate(count - 1)
