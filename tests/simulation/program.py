"""Random programs, and the handlers that run them.

A program is JSON: a list of operations, each with a name that is unique in its invocation. What a
program sees is told to the oracle; each body of a step writes to the ledger what really ran.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import holdfast as hf
from holdfast.domain.ids import parse_awakeable_id

from . import ending
from .prompt import describe

if TYPE_CHECKING:
    from .world import Worker, World

Op = list[Any]
Seen = list[Any] | int | str | None

CANCELLED = 409
REFUSED = 418
_RETRY = hf.RetryPolicy(initial_interval=0.05, max_interval=0.5, max_attempts=None)
OPTIONS: dict[str, Any] = {
    "retry": _RETRY,
    "journal_retention": 20.0,
    "idempotency_retention": 3600.0,
}

agent = hf.Service("Agent", **OPTIONS)
box = hf.VirtualObject("Box", **OPTIONS)
counter = hf.VirtualObject("Counter", **OPTIONS)


class Bench:
    """What handlers of one run share with the outside. There is one at a time."""

    def __init__(self, world: World, resolve: Any, signal: Any) -> None:
        self.world = world
        self.resolve = resolve
        """Called with the id of an awakeable that was published, and how to complete it."""
        self.signal = signal
        """Called with the id of an invocation, the name of a signal, and the values to send."""
        self.runs: Counter[tuple[str, str]] = Counter()
        """Bodies of steps that began, by invocation and step."""
        self.begun_once: Counter[Any] = Counter()
        """Bodies that must not run twice, by invocation, its life, and step; see `once`."""
        self.failed_once: Counter[Any] = Counter()
        """Of those, which have failed."""
        self.ledger: list[tuple[float, str, str, str]] = []
        self.said: dict[str, list[str]] = {}
        """What steps have said to models, by invocation."""
        self.random = Random(f"{world.seed}/steps")


_bench: Bench | None = None


def use(bench: Bench) -> None:
    """Make it the bench of all handlers."""
    global _bench
    _bench = bench


def bench() -> Bench:
    assert _bench is not None
    return _bench


def make_app(worker: Worker) -> hf.App:
    """Return an app of its own, as a new process has."""
    from .brief import brief
    from .desk import desk
    from .flow import flow
    from .shelf import shelf
    from .teller import teller

    services = (agent, box, brief, counter, desk, flow, shelf, teller)
    return hf.App(*services, clock=worker.clock.now_ms)


# -- bodies of steps -------------------------------------------------------------------------------


class Body:
    """The body of a step, with what the ledger needs."""

    def __init__(self, ctx: hf.Context, name: str) -> None:
        joint: Any = ctx._attempt._stream
        self.delivery = joint.delivery
        self.link = joint._link
        self.inv = ctx.id
        self.name = name

    def begin(self) -> int:
        """Write to the ledger; return how often this step began."""
        desk = bench()
        desk.world.oracle.on_step(self.delivery, self.name)
        desk.runs[self.inv, self.name] += 1
        describe(desk.said.setdefault(self.inv, []), self.name)
        self.note("begins")
        return desk.runs[self.inv, self.name]

    def note(self, what: str) -> None:
        desk = bench()
        desk.ledger.append((desk.world.true_s(), self.inv, self.name, what))
        desk.world.trace("step", self.inv, self.name, what)

    async def work(self, seconds: float) -> list[Any]:
        """Take a while; the result is another one each time."""
        run = self.begin()
        if seconds:
            await asyncio.sleep(seconds)
        self.note("ends")
        return [self.name, run]

    async def fail(self, times: int, seconds: float) -> list[Any]:
        """Fail the first times."""
        run = self.begin()
        if seconds:
            await asyncio.sleep(seconds)
        if run <= times:
            raise RuntimeError(f"failure {run} of {times}")
        return [self.name, run]

    async def refuse(self) -> list[Any]:
        """Fail for good."""
        self.begin()
        raise hf.TerminalError("refused", code=REFUSED)

    async def invite(self, name: str, values: list[str]) -> None:
        """Ask the outside for signals."""
        self.begin()
        bench().signal(self.inv, name, values)

    async def publish(self, awakeable_id: str, how: list[Any]) -> None:
        """Give the id of an awakeable away."""
        self.begin()
        bench().resolve(awakeable_id, how)


# -- handlers --------------------------------------------------------------------------------------


def see(ctx: hf.Context, name: str, seen: Any) -> Any:
    """Tell the oracle what user code has seen: at each attempt the same."""
    joint: Any = ctx._attempt._stream
    bench().world.oracle.on_seen(joint.delivery, name, seen)
    return seen


async def perform(ctx: hf.Context, op: Op) -> Seen:
    """Run one operation."""
    kind, name = op[0], op[1]
    try:
        seen = await _perform(ctx, kind, name, op[2:])
    except hf.TerminalError as error:
        see(ctx, name, ["error", error.code, error.message])
        if error.code == CANCELLED:
            raise
        return ["error", error.code]
    except TimeoutError:
        return see(ctx, name, "timeout")
    return see(ctx, name, seen)


async def _perform(ctx: hf.Context, kind: str, name: str, args: list[Any]) -> Seen:
    match kind:
        case "step":
            return await ctx.run(name, Body(ctx, name).work, args[0])
        case "flaky":
            own = _RETRY if args[2] else None
            return await ctx.run(name, Body(ctx, name).fail, args[0], args[1], retry=own)
        case "refuse":
            return await ctx.run(name, Body(ctx, name).refuse)
        case "once":
            from .once import once

            return await once(ctx, name, args[0], args[1])
        case "sleep":
            await ctx.sleep(args[0])
            return None
        case "pause":
            await asyncio.sleep(args[0])
            return None
        case "call":
            target, key, arg = args
            return await ctx.call(target, arg, key=key)
        case "send":
            target, key, arg, delay_s = args
            return await ctx.send(target, arg, key=key, delay=delay_s or None)
        case "awakeable":
            return await _await_outside(ctx, name, args[0], args[1])
        case "gather":
            results = await asyncio.gather(
                *(perform(ctx, op) for op in args[0]), return_exceptions=True
            )
            return [_plain(result) for result in results]
        case "group":
            return await _group(ctx, args[0])
        case "timeout":
            async with asyncio.timeout(args[0]):
                return await perform(ctx, args[1])
        case "first":
            return await _first(ctx, args[0])
        case "get":
            return await ctx.get("n", type=int)
        case "set":
            ctx.set("n", args[0])
            return None
        case "race":
            return await ending.race(ctx, args[0], perform)
        case "saga":
            return await ending.saga(ctx, name, args[0], args[1], perform, Body)
        case "signals":
            await ctx.run(f"{name}/publish", Body(ctx, f"{name}/publish").invite, name, args[0])
            await ctx.sleep(args[1])
            return await ending.signals(ctx, name, args[0], bench().world.oracle)
        case "patched":
            # All code is new, so the answer is always yes, whatever was lost.
            return ctx.patched(name)
    raise AssertionError(kind)


def _plain(result: Any) -> Any:
    if isinstance(result, hf.TerminalError):
        return ["error", result.code]
    if isinstance(result, BaseException):
        raise result
    return result


async def _await_outside(ctx: hf.Context, name: str, how: list[Any], wait_s: float) -> Seen:
    promise = ctx.awakeable(str, name=name)
    await ctx.run(f"{name}/publish", Body(ctx, f"{name}/publish").publish, promise.id, how)
    if wait_s:
        await ctx.sleep(wait_s)
    value = await promise
    inv, index = parse_awakeable_id(promise.id)
    bench().world.oracle.on_awakeable(inv, index, f'"{value}"'.encode())
    return value


async def _group(ctx: hf.Context, ops: list[Op]) -> Seen:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(perform(ctx, op)) for op in ops]
    except* hf.TerminalError as error:
        raise error.exceptions[0] from None
    return [task.result() for task in tasks]


async def _first(ctx: hf.Context, ops: list[Op]) -> Seen:
    tasks = [asyncio.ensure_future(perform(ctx, op)) for op in ops]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    winner = next(i for i, task in enumerate(tasks) if task.done())
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        # The end of the attempt is no result: gather would hide it.
        if isinstance(result, hf.Suspended | hf.Aborted):
            raise result
    return [winner, tasks[winner].result()]


@agent.handler
async def run(ctx: hf.Context, program: list[Op]) -> list[Any]:
    return [await perform(ctx, op) for op in program]


@agent.handler
async def refuse(ctx: hf.Context, program: list[Op]) -> list[Any]:
    for op in program:
        await perform(ctx, op)
    raise hf.TerminalError("no", code=REFUSED)


@box.handler
async def hold(ctx: hf.Context, program: list[Op]) -> list[Any]:
    return [await perform(ctx, op) for op in program]


@counter.handler
async def add(ctx: hf.Context, seconds: float) -> int:
    before = await ctx.get("n", type=int) or 0
    if seconds:
        await ctx.run("think", Body(ctx, "think").work, seconds)
    ctx.set("n", before + 1)
    return before + 1


@counter.shared
async def read(ctx: hf.Context) -> int:
    return await ctx.get("n", type=int) or 0


# -- random programs -------------------------------------------------------------------------------


class Author:
    """Writes programs."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.keys = random.choice((("a",), ("a", "d"), ("a", "b", "c", "d")))
        self._count = 0

    def program(self, size: int, depth: int = 2, *, is_keyed: bool = False) -> list[Op]:
        return [self._op(depth, is_keyed) for _ in range(size)]

    def key(self) -> str:
        """Few keys, sometimes one that all want."""
        return self.random.choice(self.keys)

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"

    def _latency_s(self) -> float:
        return self.random.choice((0.0, 0.0, 0.01, 0.1, self.random.random()))

    def _wait(self) -> Op:
        random = self.random
        kind = random.choice(("sleep", "sleep", "awakeable", "call"))
        name = self._name(kind)
        seconds = round(random.random() * 2, 3)
        match kind:
            case "sleep":
                return [kind, name, seconds]
            case "awakeable":
                return [kind, name, [seconds, name, random.random() < 0.3], 0.0]
            case _:
                target = random.choice(("Agent/run", "Agent/refuse"))
                return [kind, name, target, None, [["sleep", self._name("sleep"), seconds]]]

    def _op(self, depth: int, is_keyed: bool) -> Op:
        random = self.random
        kinds = ["step"] * 5 + ["flaky", "refuse", "sleep", "sleep", "pause", "count", "awakeable"]
        kinds += ["patched", "signals", "signals"]
        if is_keyed:
            kinds += ["get", "set"]
        if depth:
            kinds += ["call", "call", "send", "gather", "gather", "group", "timeout", "first"]
            kinds += ["race", "saga", "fan", "fan"]
        kind = random.choice(kinds)
        name = self._name(kind)
        match kind:
            case "step":
                # By their number, so that the rest of a program stays what it is.
                if self._count % 5 == 0:
                    return ["once", name, self._latency_s(), self._count % 2]
                return [kind, name, self._latency_s()]
            case "flaky":
                times = random.choice((1, 1, 2, 3))
                return [kind, name, times, self._latency_s(), random.random() < 0.5]
            case "refuse" | "get" | "patched":
                return [kind, name]
            case "set":
                return [kind, name, random.randint(0, 99)]
            case "sleep" | "pause":
                most_s = random.choice((0.001, 0.1, 1.0, 3.0))
                return [kind, name, round(most_s * random.random(), 3)]
            case "count":
                target = ["Counter/add", self.key(), self._latency_s()]
                if random.random() < 0.5:
                    return ["call", name, *target]
                return ["send", name, *target, random.choice((0.0, 0.0, 1.0))]
            case "awakeable":
                how = [round(random.random() ** 2 * 2, 3), name, random.random() < 0.3]
                return [kind, name, how, random.choice((0.0, 0.0, 0.5))]
            case "call" | "send":
                # From keyed handlers no calls to keyed ones: they could wait for each other.
                is_box = not is_keyed and depth == 2 and random.random() < 0.4
                target = "Box/hold" if is_box else random.choice(("Agent/run", "Agent/refuse"))
                size = random.randint(1, 2)
                arg = self.program(size, depth - 1, is_keyed=is_box)
                op = [kind, name, target, self.key() if is_box else None, arg]
                return op if kind == "call" else [*op, random.choice((0.0, 0.5))]
            case "signals":
                values = [f"{name}.{n}" for n in range(random.randint(1, 3))]
                return [kind, name, values, random.choice((0.0, 0.0, 1.0))]
            case "saga":
                ops = [self._op(depth - 1, is_keyed) for _ in range(random.randint(1, 2))]
                return [kind, name, ops, random.random() < 0.5]
            case "fan":
                # Waits side by side and nothing else: what an attempt suspends on together.
                return ["gather", name, [self._wait() for _ in range(random.randint(2, 4))]]
            case "gather" | "group" | "first" | "race":
                ops = [self._op(depth - 1, is_keyed) for _ in range(random.randint(2, 3))]
                return [kind, name, ops]
            case _:
                return [kind, name, round(random.random(), 3), self._op(depth - 1, is_keyed)]
