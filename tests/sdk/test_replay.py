"""Whatever asyncio combinators a handler uses: crash anywhere, and it goes on as it began.

A handler's *trace* is what its code saw, in order: the results as they came. A replay of any prefix
of a journal must see the same trace up to where the journal ends, must not run a step whose result
is recorded, and must end.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import msgspec
import pytest

import holdfast as hf
from holdfast.domain.message import SIGNAL_CANCEL, Completion, Failure, Value, Void
from holdfast.sdk.attempt import Attempt
from holdfast.sdk.branch import Branch

from .fake_server import FakeServer
from .loops import both_loops, run_on


class Program:
    """A handler, and what its last attempt saw."""

    def __init__(self, handler: Callable[[Program, hf.Context], Awaitable[Any]]) -> None:
        self.traces: list[list[Any]] = [[]]
        """Of all attempts; what is left of one may still write to its own."""
        self._trace: ContextVar[list[Any]] = ContextVar("trace")
        self.bodies: list[str] = []
        self.failed: set[str] = set()
        self.noise = random.Random()
        self.has_jitter = False
        """Whether tasks interleave differently each time."""
        service = hf.Workflow("S")

        async def h(ctx: hf.Context) -> Any:
            self.traces.append([])
            self._trace.set(self.traces[-1])
            return await handler(self, ctx)

        service.main(h)
        self.app = hf.App(service)
        self.server: FakeServer

    @property
    def trace(self) -> list[Any]:
        """Of the attempt that asks, or else of the last one."""
        return self._trace.get(self.traces[-1])

    def serve(self, **options: Any) -> FakeServer:
        self.server = FakeServer(self.app, "S/h", **options)
        self.failed = set()
        return self.server

    def jitter(self) -> int:
        return self.noise.randrange(4) if self.has_jitter else 0

    def check_errors(self) -> None:
        """Attempts fail where a step is flaky, and nowhere else."""
        unexpected = [e.message for e in self.server.errors if "ValueError: flaky" not in e.message]
        assert not unexpected, unexpected[0]

    async def body(self, name: str, ticks: int = 1) -> str:
        """Body of a step: takes some turns of the loop."""
        result = Value(msgspec.json.encode(name))
        recorded = [e.result for e in self.server.journal if isinstance(e, Completion)]
        assert result not in recorded, f"{name} runs again although its result is recorded"
        self.bodies.append(name)
        if "flaky" in name and name not in self.failed:
            self.failed.add(name)
            raise ValueError("flaky")
        # Noise: tasks of pools and clients inside a step differ from run to run.
        noise = [asyncio.create_task(asyncio.sleep(0)) for _ in range(self.noise.randrange(3))]
        for _ in range(ticks):
            await asyncio.sleep(0)
        await asyncio.gather(*noise)
        return name


async def check(
    handler: Callable[[Program, hf.Context], Awaitable[Any]], *, seeds: range = range(3)
) -> None:
    """Run without crash, then replay all prefixes of the journal, then crash after every entry."""
    program = Program(handler)
    for seed in seeds:
        server = program.serve(seed=seed)
        result = await server.run()
        journal, trace = list(server.journal), program.trace
        for length in range(1, len(journal) + 1):
            await check_prefix(program, program.serve(journal=journal[:length]), trace)
        replay = program.serve(journal=journal)
        assert await replay.run() == result
        assert program.trace == trace
        assert replay.commands() == server.commands()
        await check_crashes(program, seed)


async def check_prefix(p: Program, server: FakeServer, trace: list[Any]) -> None:
    """What a replay sees until it has heard everything recorded, the first run saw too."""
    pending, timers = server._pending, server._timers
    server._pending, server._timers = [], []
    server._open()
    attempt = server.attempt
    assert attempt is not None
    snapshots: list[list[Any]] = []
    hand_over = attempt._hand_over

    def hand_over_after_replay() -> bool:
        if not attempt.machine.replay_left:
            snapshots.append(list(p.trace))
        return hand_over()

    attempt._hand_over = hand_over_after_replay  # type: ignore[method-assign]
    while (attempt.machine.replay_left or attempt.busy) and attempt.is_open:
        await asyncio.sleep(0)
    seen = snapshots[0] if snapshots else p.trace
    assert seen == trace[: len(seen)], (seen, trace)
    server._pending += pending
    server._timers += timers
    await server.finish()
    p.check_errors()


async def check_crashes(program: Program, seed: int) -> None:
    chance = random.Random(seed)
    for crash in (lambda n: True, lambda n: chance.random() < 0.4, None):
        for is_request_response in (False, True):
            server = program.serve(crash=crash, is_request_response=is_request_response, seed=seed)
            await server.finish()
            program.check_errors()


@both_loops
async def test_gather() -> None:
    async def handler(p: Program, ctx: hf.Context) -> list[str]:
        async def worker(n: int) -> str:
            first = await ctx.run(f"a{n}", p.body, f"a{n}", 3 - n)
            p.trace.append(first)
            second = await ctx.run(f"b{n}", p.body, f"b{n}", n)
            p.trace.append(second)
            return first + second

        return await asyncio.gather(worker(0), worker(1), worker(2))

    await check(handler)


@both_loops
async def test_task_group_with_shared_state() -> None:
    async def handler(p: Program, ctx: hf.Context) -> list[str]:
        shared: list[str] = []

        async def worker(n: int) -> None:
            shared.append(await ctx.run(f"a{n}", p.body, f"a{n}", n))
            p.trace.append(list(shared))
            await ctx.call("Other/say", "/".join(shared))

        async with asyncio.TaskGroup() as group:
            for n in range(3):
                group.create_task(worker(n))
            group.create_task(ctx.run("direct", p.body, "direct"))
        return shared

    await check(handler)


@both_loops
async def test_first_completed_and_leftovers() -> None:
    async def handler(p: Program, ctx: hf.Context) -> list[str]:
        pending: set[Any] = {ctx.run(f"a{n}", p.body, f"a{n}", n * 2) for n in range(4)}
        order: list[str] = []
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            order += [future.result() for future in done]
            p.trace.append(list(order))
            await ctx.run("after-" + order[-1], p.body, "after-" + order[-1])
        return order

    await check(handler)


@both_loops
async def test_as_completed_of_coroutines() -> None:
    async def handler(p: Program, ctx: hf.Context) -> list[str]:
        async def worker(n: int) -> str:
            await ctx.run(f"w{n}", p.body, f"w{n}", n)
            return await ctx.run(f"w{n}b", p.body, f"w{n}b", 4 - n)

        order: list[str] = []
        for future in asyncio.as_completed([worker(n) for n in range(5)]):
            order.append(await future)
            p.trace.append(order[-1])
        return order

    await check(handler)


@both_loops
async def test_timeouts() -> None:
    async def handler(p: Program, ctx: hf.Context) -> list[str]:
        result: list[str] = []
        try:
            async with asyncio.timeout(5):
                result.append(await ctx.run("in time", p.body, "in time"))
                await ctx.awakeable()
        except TimeoutError:
            result.append("timeout")
            p.trace.append("timeout")
        try:
            await asyncio.wait_for(ctx.sleep(100), 3)
        except TimeoutError:
            p.trace.append("wait_for")
        done, pending = await asyncio.wait([ctx.sleep(50), ctx.awakeable()], timeout=2)
        p.trace.append((len(done), len(pending)))
        deadline = asyncio.get_running_loop().time() + 10
        for _ in range(3):
            try:
                async with asyncio.timeout_at(deadline):
                    await asyncio.sleep(4)
                    p.trace.append("slept")
            except TimeoutError:
                p.trace.append("deadline")
        return result

    await check(handler, seeds=range(1))


@both_loops
async def test_races_cancel_the_loser() -> None:
    async def handler(p: Program, ctx: hf.Context) -> str:
        async def worker(name: str) -> str:
            try:
                return await ctx.run(name, p.body, name, 50 if name == "slow" else 2)
            except asyncio.CancelledError:
                p.trace.append(name + " lost")
                raise

        tasks = [asyncio.create_task(worker(name)) for name in ("slow", "fast")]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        winner = done.pop().result()
        p.trace.append(winner)
        return await ctx.run("after", p.body, "after")

    await check(handler)


@both_loops
async def test_queues_locks_and_events() -> None:
    async def handler(p: Program, ctx: hf.Context) -> list[str]:
        queue: asyncio.Queue[str | None] = asyncio.Queue(maxsize=1)
        lock = asyncio.Lock()
        results: list[str] = []

        async def produce() -> None:
            for n in range(3):
                await queue.put(await ctx.run(f"make{n}", p.body, f"make{n}", n))
            await queue.put(None)

        async def consume() -> None:
            while (item := await queue.get()) is not None:
                async with lock:
                    results.append(await ctx.run(f"use-{item}", p.body, f"use-{item}"))
                    p.trace.append(results[-1])

        async with asyncio.TaskGroup() as group:
            group.create_task(produce())
            group.create_task(consume())
        return results

    await check(handler)


@both_loops
async def test_scopes_keep_keys_when_order_changes() -> None:
    async def handler(p: Program, ctx: hf.Context) -> list[str]:
        async def tool(call_id: str) -> str:
            with hf.current().scope(f"tool:{call_id}"):
                return await ctx.run("work", p.body, call_id)

        names = ["x", "y"] if len(p.traces) % 2 == 0 else ["y", "x"]
        return sorted(await asyncio.gather(*[tool(name) for name in names]))

    program = Program(handler)
    server = program.serve()
    assert await server.run() == ["x", "y"]
    assert len(program.traces) == 2
    assert sorted(server.commands())[1:] == [
        "test_scopes_keep_keys_when_order_changes.<locals>.handler.<locals>.tool[0]/tool:x[0]/run:work#0",
        "test_scopes_keep_keys_when_order_changes.<locals>.handler.<locals>.tool[1]/tool:y[0]/run:work#0",
    ]


# -- random programs ------------------------------------------------------------------------------


class Generator:
    """Makes a random tree of combinators; each leaf has a unique name."""

    leaves = ("run", "run", "flaky", "call", "sleep", "asleep", "awakeable", "state", "fail")
    leaves += ("promise", "signal")
    races = ("first", "completed", "timeout", "shield", "race")
    nodes = ("seq", "gather", "group", "background")

    def __init__(self, seed: int, *, has_races: bool = True) -> None:
        self.random = random.Random(seed)
        self.names = 0
        if has_races:
            self.nodes += self.races

    def tree(self, depth: int) -> tuple[str, int, list[Any]]:
        self.names += 1
        kind = self.random.choice(self.leaves if depth == 0 else self.nodes)
        count = 0 if depth == 0 else self.random.randint(1, 3)
        number = self.names
        return (kind, number, [self.tree(self.random.randrange(depth)) for _ in range(count)])


async def evaluate(p: Program, ctx: hf.Context, tree: tuple[str, int, list[Any]]) -> Any:
    """Run one node of a random program and note what it saw."""
    kind, number, parts = tree
    name = f"{kind}{number}"
    for _ in range(p.jitter()):
        await asyncio.sleep(0)
    if not parts:
        result = await evaluate_leaf(p, ctx, kind, name, number)
    else:
        result = await evaluate_node(p, ctx, kind, number, parts)
    p.trace.append((name, result))
    return result


async def evaluate_leaf(p: Program, ctx: hf.Context, kind: str, name: str, number: int) -> Any:
    match kind:
        case "run" | "flaky":
            return await ctx.run("work", p.body, name, number % 5)
        case "call":
            return await ctx.call("Other/do", number)
        case "sleep":
            await ctx.sleep(number % 7)
        case "asleep":
            await asyncio.sleep(number % 7)
        case "state":
            ctx.send("Other/note", name)
            return ctx.random.randrange(1000)
        case "promise":
            return await evaluate_promise(p, ctx, name, number)
        case "awakeable":
            awakeable = ctx.awakeable(type=int)
            p.server.signal_later(awakeable._number, Value(str(number).encode()))
            return await awakeable
        case "signal":
            for turn in range(2):
                p.server.signal_named_later(name, Value(str(turn).encode()))
            # They come in any order; each is taken once.
            return sorted([await ctx.signal(name, type=int), await ctx.signal(name, type=int)])
        case _:
            try:
                await ctx.call("Fails/always", number)
            except hf.TerminalError as error:
                return error.message
    return name


async def evaluate_promise(p: Program, ctx: hf.Context, name: str, number: int) -> Any:
    promise = ctx.promise(name, int)
    if number % 2:
        p.server.resolve_promise(name, Value(str(number).encode()))
        return await promise.value()
    waiting = promise.value()
    await promise.resolve(number)
    try:
        await promise.reject("too late")
    except hf.TerminalError as error:
        return [await promise.peek(), await waiting, error.code]
    raise AssertionError("a promise was completed twice")


async def evaluate_node(p: Program, ctx: hf.Context, kind: str, n: int, parts: list[Any]) -> Any:
    if kind in ("seq", "timeout"):
        return await evaluate_in_turn(p, ctx, kind, n, parts)
    coros = [evaluate(p, ctx, part) for part in parts]
    match kind:
        case "gather":
            return await asyncio.gather(*coros)
        case "group":
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(coro) for coro in coros]
            return [task.result() for task in tasks]
        case "first":
            started = [asyncio.create_task(coro) for coro in coros]
            done, pending = await asyncio.wait(started, return_when=asyncio.FIRST_COMPLETED)
            for task in started:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            return [task.result() for task in started if task in done]
        case "race":
            winner = await hf.race(*coros)
            return [winner.index, winner.value]
        case "completed":
            return [await future for future in asyncio.as_completed(coros)]
        case "shield":
            try:
                return await asyncio.wait_for(asyncio.shield(asyncio.gather(*coros)), n % 9 + 1)
            except TimeoutError:
                return "shielded"
        case _:
            behind = [asyncio.create_task(coro) for coro in coros]
            await ctx.run("work", p.body, f"between{n}")
            return [await task for task in behind]


async def evaluate_in_turn(p: Program, ctx: hf.Context, kind: str, n: int, parts: list[Any]) -> Any:
    try:
        async with asyncio.timeout(n % 9 + 1 if kind == "timeout" else None):
            return [await evaluate(p, ctx, part) for part in parts]
    except TimeoutError:
        return "timeout"


def random_handler(
    seed: int, *, has_races: bool = True
) -> Callable[[Program, hf.Context], Awaitable[Any]]:
    tree = Generator(seed, has_races=has_races).tree(3)

    async def handler(p: Program, ctx: hf.Context) -> str:
        return str(await evaluate(p, ctx, tree))

    return handler


def answer(call: Any) -> Any:
    return Failure(500, "it fails") if call.service == "Fails" else Value(call.parameter)


async def check_random(seed: int, *, is_cancelled: bool = False) -> None:
    """Run a random program; replay all prefixes of its journal; crash after every entry."""
    program = Program(random_handler(seed))
    server = program.serve(seed=seed, answer=answer)
    if is_cancelled:
        server.signal_later(SIGNAL_CANCEL, Void())
    outcome = await server.finish()
    journal, trace = list(server.journal), list(program.trace)
    program.check_errors()
    for length in range(1, len(journal)):
        replay = program.serve(journal=journal[:length], seed=seed + length, answer=answer)
        await check_prefix(program, replay, trace)
    replay = program.serve(journal=journal, answer=answer)
    assert await replay.finish() == outcome
    assert program.trace == trace
    assert replay.commands() == server.commands()
    # One entry per attempt: every recorded entry is followed by a crash.
    crashing = program.serve(seed=seed, answer=answer, crash=lambda n: True)
    if is_cancelled:
        crashing.signal_later(SIGNAL_CANCEL, Void())
    final = await crashing.finish()
    program.check_errors()
    again = program.serve(journal=crashing.journal, answer=answer)
    assert await again.finish() == final
    program.check_errors()


async def check_jitter(seed: int) -> None:
    """Without races, what a program does must not depend on how its tasks interleave."""
    program = Program(random_handler(seed, has_races=False))
    program.has_jitter = True
    server = program.serve(seed=seed, answer=answer)
    outcome = await server.finish()
    program.check_errors()
    replay = program.serve(journal=server.journal, answer=answer)
    assert await replay.finish() == outcome
    program.check_errors()
    crashing = program.serve(seed=seed, answer=answer, crash=lambda n: True)
    assert await crashing.finish() == outcome
    program.check_errors()
    assert sorted(crashing.commands()) == sorted(server.commands())


@pytest.mark.parametrize("seed", range(40))
def test_programs_whose_tasks_interleave_differently(seed: int) -> None:
    run_on(asyncio.new_event_loop, lambda: check_jitter(seed))


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["", "cancelled"])
@pytest.mark.parametrize("seed", range(40))
def test_random_programs(seed: int, is_cancelled: bool) -> None:
    run_on(asyncio.new_event_loop, lambda: check_random(seed, is_cancelled=is_cancelled))


# -- mutants --------------------------------------------------------------------------------------


def deliver_at_any_time(attempt: Attempt) -> None:
    while attempt.is_open and attempt.machine.has_arrivals and attempt._hand_over():
        pass
    if not attempt.busy:
        attempt._settle()


def no_child(branch: Branch, label: str) -> Branch:
    return branch


@pytest.mark.parametrize(
    ("name", "mutant"),
    [
        ("holdfast.sdk.branch.Branch.child", no_child),
        ("holdfast.sdk.attempt.Attempt._pump", deliver_at_any_time),
        ("holdfast.sdk.attempt.Attempt._settle", lambda attempt: False),
        ("holdfast.sdk.loop._siblings_in_as_completed", lambda coro: []),
    ],
)
def test_mutants_are_found(name: str, mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above is worth something: it finds what is known to be wrong."""
    monkeypatch.setattr(name, mutant)
    monkeypatch.setattr("tests.sdk.loops._TIMEOUT_S", 0.3)

    def check_all() -> None:
        for seed in range(150):
            run_on(asyncio.new_event_loop, functools.partial(check_random, seed))
            run_on(asyncio.new_event_loop, functools.partial(check_jitter, seed))

    with pytest.raises((AssertionError, TimeoutError)):
        check_all()
