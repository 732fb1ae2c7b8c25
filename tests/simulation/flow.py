"""A workflow: its handlers, its clients, and the rules for promises.

The main handler asks others of its key to complete a promise, often several at once with different
values, and waits for it. Others watch promises for a while.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, cast

import msgspec

import holdfast as hf
from holdfast.domain.identity import workflow_id
from holdfast.domain.message import (
    Call,
    Command,
    CompletePromise,
    Completion,
    Failure,
    GetPromise,
    OneWayCall,
    Outcome,
    PeekPromise,
    Void,
)
from holdfast.domain.target import Target
from holdfast.engine.decision import Batch
from holdfast.engine.promise import PROMISE_COMPLETED
from holdfast.engine.record import INVOKED
from holdfast.engine.row import InvocationRow, PromiseRow, Table
from holdfast.server.handle import Finished, Request

from . import program

if TYPE_CHECKING:
    from .checker import Oracle
    from .workload import Clients
    from .world import SimHost

_NAMES = ("p", "q")
_GONE = 410

flow = hf.Workflow("Flow", workflow_retention=3600.0, **program.OPTIONS)


@flow.main
async def enact(ctx: hf.Context, ops: list[program.Op]) -> list[Any]:
    results = []
    for op in ops:
        results.append(await (_vow(ctx, *op[1:]) if op[0] == "vow" else program.perform(ctx, op)))
    return results


@flow.handler
async def settle(ctx: hf.Context, request: list[str]) -> str:
    name, value = request
    try:
        await ctx.promise(name, str).resolve(value)
    except hf.TerminalError as error:
        if error.message != PROMISE_COMPLETED.message:
            raise
        return program.see(ctx, "settle", "lost")
    return program.see(ctx, "settle", "won")


@flow.handler
async def watch(ctx: hf.Context, request: list[Any]) -> Any:
    name, seconds = request
    try:
        async with asyncio.timeout(seconds):
            return program.see(ctx, "watch", await ctx.promise(name, str).value())
    except TimeoutError:
        return program.see(ctx, "watch", "timeout")


async def _vow(ctx: hf.Context, name: str, promised: str, settlers: list[list[Any]]) -> Any:
    promise = ctx.promise(promised, str)
    program.see(ctx, f"{name}/peek", await promise.peek())
    for delay_s, value in settlers:
        ctx.send("Flow/settle", [promised, value], key=ctx.key, delay=delay_s or None)
    return program.see(ctx, name, await promise.value())


class FlowClients:
    """Clients of the workflow."""

    def __init__(self, clients: Clients, span_s: float) -> None:
        self.clients = clients
        self.random = Random(f"{clients.world.seed}/flow")
        self.author = program.Author(self.random)
        self.keys = self.random.choice((("a",), ("a", "b", "c")))
        self._span_s = span_s
        self._count = 0

    def begin(self) -> None:
        """Arrange all requests."""
        for _ in range(self.random.randint(0, 5)):
            self.clients.spawn(self._client(self.random.random() * self._span_s))

    def _program(self) -> list[program.Op]:
        random = self.random
        ops = self.author.program(random.randint(0, 2), 1, is_keyed=True)
        for _ in range(random.randint(1, 2)):
            self._count += 1
            name = f"vow{self._count}"
            settlers = [
                [random.choice((0.0, 0.0, 0.5)), f"{name}/{number}"]
                for number in range(random.randint(1, 3))
            ]
            ops.insert(random.randint(0, len(ops)), ["vow", name, random.choice(_NAMES), settlers])
        return ops

    async def _client(self, after_s: float) -> None:
        random = self.random
        key, ops = random.choice(self.keys), self._program()
        kind = random.choice(("call", "send", "delayed", "parent"))
        fate = random.choice((None, None, None, None, "cancel", "kill"))
        watched = [random.choice(_NAMES) for _ in range(random.randint(0, 2))]
        patience_s = random.choice((0.1, 1.0, 4.0))
        await asyncio.sleep(after_s)
        for name in watched:
            request = self._request(Target("Flow", "watch", key), [name, patience_s])
            self.clients.spawn(self.clients.send_once(Target("Flow", "watch", key), request))
        if random.random() < 0.3:
            # Perhaps before the main invocation, behind it, or without one.
            self._count += 1
            target = Target("Flow", "settle", key)
            request = self._request(target, [random.choice(_NAMES), f"early{self._count}"])
            await self.clients.send_once(target, request)
            if random.random() < 0.3:
                return
        if kind == "parent":
            op = ["call", f"flow{self._count}", "Flow/enact", key, ops]
            target = Target("Agent", "run")
            await self.clients.send_once(target, self._request(target, [op]))
            return
        target = Target("Flow", "enact", key)
        request = self._request(target, ops, random.randint(1, 2000) if kind == "delayed" else 0)
        inv = await (self._call(target, request) if kind == "call" else self._send(target, request))
        if fate is not None:
            await asyncio.sleep(random.random())
            await self.clients.end(inv, fate)
        await self.clients.attach(inv)

    def _request(self, target: Target, arg: Any, delay_ms: int = 0) -> Callable[[SimHost], Request]:
        body = msgspec.json.encode(arg)

        def request(host: SimHost) -> Request:
            at_ms = host.now_ms() + delay_ms if delay_ms else 0
            handler = host.resolve(target.service, target.handler)
            return Request(target, handler, body, (), None, at_ms)

        return request

    async def _call(self, target: Target, request: Callable[[SimHost], Request]) -> str:
        clients = self.clients
        finished: Finished = await clients.ask(lambda host: clients.call(host, request))
        inv = finished.invocation_id
        clients.on_accepted(target, inv, None)
        if finished.outcome != INVOKED:
            clients.world.oracle.flow.on_first(target, inv)
            clients.on_finished(finished)
        return inv

    async def _send(self, target: Target, request: Callable[[SimHost], Request]) -> str:
        clients = self.clients
        accepted = await clients.ask(lambda host: clients.send(host, request))
        clients.on_accepted(target, accepted.invocation_id, None)
        if accepted.is_new:
            clients.world.oracle.flow.on_first(target, accepted.invocation_id)
        return accepted.invocation_id


# -- rules -----------------------------------------------------------------------------------------

Place = tuple[str, str, str]


def is_of_main(command: object) -> bool:
    """Whether a command asks for the main handler: several may, and one of them makes it."""
    return (
        isinstance(command, Call | OneWayCall)
        and (command.service, command.handler) == ("Flow", "enact")
    )  # fmt: skip


class FlowRules:
    """What must hold for workflows."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._fail = oracle.fail
        self._rows: dict[Place, PromiseRow] = {}
        self._old: dict[Place, Outcome] = {}
        """Outcomes that were durable before the batch that is being checked."""
        self._winners: dict[Place, str] = {}
        self._firsts: Counter[str] = Counter()
        self._removed: dict[tuple[str, str], int] = {}
        """By key: number of the batch that has removed its main invocation."""

    def on_removed(self, workflow: str, key: str) -> None:
        """The main invocation of a key is removed in the batch that is checked next."""
        self._removed[workflow, key] = self._oracle.commit_count
        for place in [place for place in self._rows if place[:2] == (workflow, key)]:
            self._drop(place)

    def _drop(self, place: Place) -> None:
        self._rows.pop(place, None)
        self._winners.pop(place, None)

    def _is_expired(self, place: Place, now_ms: int) -> bool:
        """Whether a promise was kept as long as one without a main invocation is."""
        main = self._oracle.lives.get(workflow_id(*place[:2]))
        expires_at_ms = self._rows[place].expires_at_ms
        return main is None and 0 < expires_at_ms <= now_ms

    def on_commit(self, batch: Batch, now_ms: int) -> None:
        """Look at the promises of a batch; called before its journal is looked at."""
        self._old = {place: row.outcome for place, row in self._rows.items() if row.outcome}
        for key, row in batch.rows.items():
            if key[0] is not Table.PROMISE:
                continue
            place = cast("Place", key[1:])
            old = self._old.get(place)
            if row is None and old is not None and self._is_expired(place, now_ms):
                self._drop(place)
            elif old is not None and (not isinstance(row, PromiseRow) or row.outcome != old):
                self._fail("W01", f"promise {place} was {old}, now {row}")
            if isinstance(row, PromiseRow):
                if bool(row.outcome) == bool(row.sinks):
                    self._fail("W01", f"promise {place} has an outcome or waiters: {row}")
                self._rows[place] = row
            else:
                self._rows.pop(place, None)

    def on_completion(self, row: InvocationRow, command: Command, entry: Completion) -> None:
        """Look at what a handler was told of a promise."""
        if not isinstance(command, GetPromise | PeekPromise | CompletePromise):
            return
        assert row.target.key is not None
        place = (row.target.service, row.target.key, command.promise_name)
        told, known = entry.result, self._rows.get(place, PromiseRow()).outcome
        if self._removed.get(place[:2]) == self._oracle.commit_count:
            return  # Before or after the removal, which is in this batch, too.
        if isinstance(command, CompletePromise):
            winner = self._winners.setdefault(place, row.id) if told == Void() else None
            if winner not in (None, row.id):
                self._fail("W01", f"{row.id} and {winner} have both completed {place}")
        elif isinstance(told, Failure) and told.code == _GONE:
            pass
        elif isinstance(told, Void):
            if place in self._old:
                self._fail("W01", f"{row.id} saw nothing in {place}, it was {self._old[place]}")
        elif told != known:
            self._fail("W01", f"{row.id} was told {told} of {place}, durable is {known}")

    def on_first(self, target: Target, invocation_id: str) -> None:
        """A client was told that it, and nobody else, has made the main invocation of a key."""
        assert target.key is not None
        inv = workflow_id(target.service, target.key)
        self._firsts[inv] += 1
        oracle = self._oracle
        lives = sum(life.id == inv for life in (*oracle.past_lives, *oracle.lives.values()))
        if self._firsts[inv] > lives:
            told = self._firsts[inv]
            self._fail("W02", f"{told} made {target}, the last {invocation_id}; {lives} are there")

    def check_rest(self) -> None:
        """Everything is complete: nobody waits any more."""
        pending = {place: row for place, row in self._rows.items() if row.sinks}
        if pending:
            self._fail("W01", f"everything is complete, and somebody waits for {pending}")
