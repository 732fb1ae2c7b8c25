"""`ctx.patched`: a program changes while invocations of it are open."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import holdfast as hf
from holdfast.domain.message import Run

from .fake_server import FakeServer
from .loops import both_loops

Way = Callable[[hf.Context], Awaitable[list[str]]]


def app_of(way: Way) -> hf.App:
    service = hf.Service("S")

    @service.handler
    async def h(ctx: hf.Context) -> list[str]:
        return await way(ctx)

    return hf.App(service)


def say(text: str) -> str:
    return text


async def side(ctx: hf.Context) -> str:
    await asyncio.sleep(0.01)
    return await ctx.run("side", say, "side")


async def old(ctx: hf.Context) -> list[str]:
    other = asyncio.create_task(side(ctx))
    done = [await ctx.run("quote", say, "quote")]
    await ctx.sleep(5)
    done.append(await ctx.run("charge", say, "charge"))
    done.append(await other)
    return done


async def new(ctx: hf.Context) -> list[str]:
    other = asyncio.create_task(side(ctx))
    done = [await ctx.run("quote", say, "quote")]
    if ctx.patched("check fraud"):
        done.append(await ctx.run("check fraud", say, "check"))
    await ctx.sleep(5)
    done.append(await ctx.run("charge", say, "charge"))
    done.append(await other)
    if ctx.patched("check fraud"):
        done.append(await ctx.run("report", say, "report"))
    return done


OLD = ["quote", "charge", "side"]
NEW = ["quote", "check", "charge", "side", "report"]


@both_loops
async def test_every_place_of_an_old_run_goes_on_in_the_new_program() -> None:
    server = FakeServer(app_of(old), "S/h")
    assert await server.run() == OLD
    quoted = [isinstance(e, Run) and e.name == "quote" for e in server.journal].index(True)
    seen = set()
    for length in range(1, len(server.journal)):
        again = FakeServer(app_of(new), "S/h", journal=server.journal[:length])
        result = tuple(await again.run())
        assert result in (tuple(OLD), tuple(NEW)), "one answer in the whole invocation"
        assert not again.errors
        if length <= quoted + 1:
            assert result == tuple(NEW), "it has not come to the place"
        seen.add(result)
    assert len(seen) == 2


@pytest.mark.parametrize("is_request_response", [False, True])
@pytest.mark.parametrize("every", [1, 2, 3])
@both_loops
async def test_a_new_invocation_goes_the_new_way_through_all_crashes(
    is_request_response: bool, every: int
) -> None:
    server = FakeServer(
        app_of(new),
        "S/h",
        crash=lambda length: length % every == 0,
        is_request_response=is_request_response,
    )
    assert await server.run() == NEW
    assert sum(key.startswith("patched:") for key in server.commands()) == 1


@both_loops
async def test_the_gate_may_go_when_only_new_runs_are_open() -> None:
    server = FakeServer(app_of(new), "S/h")
    await server.run()

    async def after(ctx: hf.Context) -> list[str]:
        other = asyncio.create_task(side(ctx))
        done = [await ctx.run("quote", say, "quote")]
        done.append(await ctx.run("check fraud", say, "check"))
        await ctx.sleep(5)
        done.append(await ctx.run("charge", say, "charge"))
        done.append(await other)
        done.append(await ctx.run("report", say, "report"))
        return done

    for length in range(1, len(server.journal)):
        again = FakeServer(app_of(after), "S/h", journal=server.journal[:length])
        assert await again.run() == NEW
        assert not again.errors


@both_loops
async def test_a_loop_puts_its_turn_into_the_id() -> None:
    async def before(ctx: hf.Context) -> list[str]:
        return [await ctx.run("turn", say, "old") for _ in range(4)]

    async def after(ctx: hf.Context) -> list[str]:
        words = []
        for turn in range(4):
            way = "new" if ctx.patched(f"turn {turn}") else "old"
            words.append(await ctx.run("turn", say, way))
        return words

    server = FakeServer(app_of(before), "S/h")
    await server.run()
    second = [isinstance(entry, Run) for entry in server.journal].index(True) + 3
    again = FakeServer(app_of(after), "S/h", journal=server.journal[: second + 1])
    assert await again.run() == ["old", "old", "new", "new"]


@both_loops
async def test_a_renamed_task_keeps_its_branch_by_its_qualified_name() -> None:
    async def check(ctx: hf.Context) -> str:
        return await ctx.run("look", say, "look")

    async def inspect(ctx: hf.Context) -> str:
        return await ctx.run("look", say, "look")

    async def before(ctx: hf.Context) -> list[str]:
        return [await asyncio.create_task(check(ctx))]

    async def after(ctx: hf.Context) -> list[str]:
        return [await asyncio.create_task(inspect(ctx))]

    server = FakeServer(app_of(before), "S/h")
    await server.run()
    inspect.__qualname__ = check.__qualname__
    for length in range(1, len(server.journal)):
        again = FakeServer(app_of(after), "S/h", journal=server.journal[:length])
        assert await again.run() == ["look"]
        assert len(again.runs()) == 1


@both_loops
async def test_a_scope_may_be_named_like_a_gate() -> None:
    async def way(ctx: hf.Context) -> list[str]:
        with ctx.scope("patched:x"):
            return [await ctx.run("a", say, "a"), await ctx.run("b", say, "b")]

    server = FakeServer(app_of(way), "S/h")
    await server.run()
    for length in range(1, len(server.journal)):
        again = FakeServer(app_of(way), "S/h", journal=server.journal[:length])
        assert await again.run() == ["a", "b"]
        assert [run.name for run in again.runs()] == ["a", "b"]


@both_loops
async def test_it_needs_a_name_and_a_handler() -> None:
    async def nameless(ctx: hf.Context) -> list[str]:
        with pytest.raises(hf.UsageError, match="HF0507"):
            ctx.patched("")

        def body() -> None:
            with pytest.raises(hf.UsageError, match="HF0501"):
                ctx.patched("x")

        await ctx.run("body", body)
        return []

    assert await FakeServer(app_of(nameless), "S/h").run() == []


# -- random programs ------------------------------------------------------------------------------

Node = tuple[Any, ...]


class Author:
    """Writes a program, and the same one with gates in it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.count = 0

    def nodes(self, depth: int) -> list[Node]:
        return [self._node(depth) for _ in range(self.random.randint(1, 3))]

    def _node(self, depth: int) -> Node:
        self.count += 1
        kinds = ["step", "step", "sleep", *(["gather", "scope", "first"] if depth else [])]
        kind = self.random.choice(kinds)
        if kind in ("step", "sleep"):
            return (kind, f"{kind}{self.random.randint(0, 3)}")
        if kind == "scope":
            return (kind, f"scope{self.count}", self.nodes(depth - 1))
        return (kind, [self.nodes(depth - 1) for _ in range(self.random.randint(2, 3))])

    def gated(self, nodes: list[Node]) -> list[Node]:
        found: list[Node] = []
        for node in nodes:
            if self.random.random() < 0.4:
                way = [("step", f"step{self.random.randint(0, 3)}"), *self.nodes(1)]
                found.append(("gate", f"g{self.random.randint(0, 2)}", way))
            match node:
                case ("scope", label, inner):
                    node = ("scope", label, self.gated(inner))
                case (("gather" | "first") as kind, branches):
                    node = (kind, [self.gated(branch) for branch in branches])
            found.append(node)
        return found


async def perform(ctx: hf.Context, nodes: list[Node], answers: list[tuple[str, bool]]) -> None:
    for node in nodes:
        match node:
            case ("step", name):
                await ctx.run(name, say, name)
            case ("sleep", _):
                await ctx.sleep(1)
            case ("scope", label, inner):
                with ctx.scope(label):
                    await perform(ctx, inner, answers)
            case ("gather", branches):
                await asyncio.gather(*(perform(ctx, each, answers) for each in branches))
            case ("first", branches):
                tasks = [asyncio.create_task(perform(ctx, each, answers)) for each in branches]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.gather(*tasks)
            case ("gate", patch_id, way):
                answer = ctx.patched(patch_id)
                answers.append((patch_id, answer))
                if answer:
                    await perform(ctx, way, answers)


def served(nodes: list[Node], answers: list[list[tuple[str, bool]]]) -> hf.App:
    async def program(ctx: hf.Context) -> list[str]:
        answers.append([])
        await perform(ctx, nodes, answers[-1])
        return []

    return app_of(program)


@pytest.mark.parametrize("seed", range(40))
@both_loops
async def test_random_programs_with_gates(seed: int) -> None:
    author = Author(seed)
    nodes = author.nodes(2)
    gated = author.gated(nodes)
    chance = random.Random(seed)
    old_server = FakeServer(served(nodes, []), "S/h", seed=seed)
    await old_server.run()
    prefixes = range(1, len(old_server.journal), max(1, len(old_server.journal) // 8))
    for journal in [None, *(old_server.journal[:length] for length in prefixes)]:
        answers: list[list[tuple[str, bool]]] = []
        server = FakeServer(
            served(gated, answers),
            "S/h",
            seed=seed,
            journal=journal,
            crash=lambda _: chance.random() < 0.3,
            is_request_response=chance.random() < 0.5,
        )
        await server.run()
        assert not server.errors, server.errors[0].message
        # All attempts agree, as far as they came, but for markers that were lost with an attempt:
        # those come out as they did, because nothing behind them was recorded.
        final = dict(answers[-1])
        assert len(set(answers[-1])) == len(final), "one answer in the whole invocation"
        for attempt in answers:
            assert all(final.get(patch_id, is_new) == is_new for patch_id, is_new in attempt)
        if journal is None:
            assert all(final.values()), "a new invocation goes the new way"
