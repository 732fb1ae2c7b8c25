"""Trees of combinators: a run with crashes ends as the run without, and with the same journal.

`test_replay` asks whether each attempt sees what the one before saw. Here the world is the same
with crashes and without (`clockwork`), so everything else has to be the same, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import holdfast as hf
from holdfast.domain.message import SIGNAL_CANCEL, Completion, Outcome, Value, Void

from .clockwork import Clockwork
from .loops import run_on
from .test_replay import Generator, Program, answer, evaluate

DEPTH = 4
SIZES = range(8, 40)
SINGLE_CRASHES_MAX = 12

Tree = tuple[str, int, list[Any]]


class Trees(Generator):
    """Steps of these trees do not fail: when a failure is noticed depends on crashes."""

    leaves = tuple(leaf for leaf in Generator.leaves if leaf != "flaky")


class GatedProgram(Program):
    """A program whose steps take the time that their names say."""

    server: Clockwork  # type: ignore[assignment]

    async def body(self, name: str, ticks: int = 1) -> str:
        assert Value(f'"{name}"'.encode()) not in [
            e.result for e in self.server.journal if isinstance(e, Completion)
        ], f"{name} runs again although its result is recorded"
        await self.server.gate(name)
        return name


def size(tree: Tree) -> int:
    return 1 + sum(size(part) for part in tree[2])


def tree_of(seed: int) -> Tree:
    """Return a tree of a bearable size."""
    generator = Trees(seed)
    while size(tree := generator.tree(DEPTH)) not in SIZES:
        pass
    return tree


async def finish(seed: int, crash: Callable[[int], bool] | None, **options: Any) -> Clockwork:
    """Run the program of a seed to its end."""
    tree = tree_of(seed)

    async def handler(p: Program, ctx: hf.Context) -> str:
        return str(await evaluate(p, ctx, tree))

    program = GatedProgram(handler)
    is_cancelled = options.pop("is_cancelled", False)
    server = Clockwork(program.app, "S/h", crash=crash, answer=answer, **options)
    program.server = server
    if is_cancelled:
        server.signal_later(SIGNAL_CANCEL, Void())
    await server.finish()
    program.check_errors()
    return server


def story(server: Clockwork) -> tuple[Outcome | None, list[Any]]:
    return server.outcome, server.journal


async def check(seed: int, *, is_cancelled: bool) -> None:
    """Crash after each entry, and after one of them; suspend wherever that is possible."""
    calm = await finish(seed, None, is_cancelled=is_cancelled)
    every = await finish(seed, lambda n: True, is_cancelled=is_cancelled)
    assert story(every) == story(calm)
    length = len(calm.journal)
    for crash_at in range(2, length, 1 + length // SINGLE_CRASHES_MAX):
        # Once: the length of the journal only grows.
        once = await finish(seed, crash_at.__eq__, is_cancelled=is_cancelled)
        assert story(once) == story(calm), f"crash at {crash_at}"
    # An attempt that hears nothing while its steps run asks for things later: another story, which
    # replays as it was.
    apart = await finish(seed, None, is_cancelled=is_cancelled, is_request_response=True)
    again = await finish(seed, None, journal=apart.journal)
    assert story(again) == story(apart)


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["", "cancelled"])
@pytest.mark.parametrize("seed", range(50))
def test_trees(seed: int, is_cancelled: bool) -> None:
    run_on(asyncio.new_event_loop, lambda: check(seed, is_cancelled=is_cancelled))


@pytest.mark.nightly
@pytest.mark.parametrize("is_cancelled", [False, True], ids=["", "cancelled"])
@pytest.mark.parametrize("block", range(20))
def test_many_trees(block: int, is_cancelled: bool) -> None:
    for seed in range(100 + block * 50, 150 + block * 50):
        run_on(asyncio.new_event_loop, lambda seed=seed: check(seed, is_cancelled=is_cancelled))  # type: ignore[misc]


def test_the_trees_have_everything_in_them() -> None:
    kinds: set[str] = set()

    def collect(tree: Tree) -> None:
        kinds.add(tree[0])
        for part in tree[2]:
            collect(part)

    for seed in range(50):
        collect(tree_of(seed))
    assert kinds >= {*Trees.leaves, *Trees.races, "seq", "gather", "group"}
