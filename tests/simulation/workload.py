"""Clients: they send requests, repeat them when a connection is lost, and remember the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeVar

import msgspec

from holdfast.domain.errors import NotFoundError
from holdfast.domain.ids import parse_awakeable_id
from holdfast.domain.message import SIGNAL_CANCEL, Outcome, Signal, Value, Void
from holdfast.domain.target import Target
from holdfast.engine.decision import Answer, Reply
from holdfast.engine.row import Status
from holdfast.server.handle import Accepted, Finished, Request

from . import shelf
from .brief import request_of
from .desk import Desks
from .flow import FlowClients
from .program import Author
from .shelf import Editors
from .teller import Tellers
from .world import ConnectionLost, SimHost, World

T = TypeVar("T")

REQUEST_COUNT = (4, 14)


class Clients:
    """All clients of a run."""

    def __init__(self, world: World, span_s: float) -> None:
        self.world = world
        self.random = Random(f"{world.seed}/clients")
        self.author = Author(self.random)
        self.acked: dict[str, str] = {}
        """Invocations that a client was told to be durable, and what they are."""
        self.by_key: dict[str, str] = {}
        """Invocation by idempotency key."""
        self.outcomes: dict[str, Outcome] = {}
        """What clients were told."""
        self.tasks: set[asyncio.Task[None]] = set()
        self._span_s = span_s

    def begin(self) -> None:
        """Arrange all requests."""
        random = self.random
        if random.random() < 0.3:
            self._span_s *= 0.2  # All come at once.
        for number in range(random.randint(*REQUEST_COUNT)):
            self.spawn(self._client(number, random.random() * self._span_s))
        FlowClients(self, self._span_s).begin()
        Editors(self, self._span_s).begin()
        Tellers(self, self._span_s).begin()
        Desks(self, self._span_s).begin()

    def spawn(self, coro: Any) -> None:
        task = self.world.loop.create_task(coro)
        self.tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.world.loop.errors.append(f"a client failed: {error!r}")

    async def ask(self, request: Callable[[SimHost], Awaitable[T]]) -> T:
        """Ask until there is an answer."""
        world = self.world
        while True:
            patience_s = 0.5 + self.random.random() if world.roll(
                world.faults.client_impatience
            ) else None  # fmt: skip
            try:
                return await world.ask(request, patience_s)
            except ConnectionLost:
                world.count("requests repeated")
                await asyncio.sleep(0.02 + self.random.random() * 0.3)

    # -- one client --------------------------------------------------------------------------------

    async def _client(self, number: int, after_s: float) -> None:
        random = self.random
        target, arg = self._choose()
        idempotency_key = f"k{number}" if random.random() < 0.75 else None
        kind = random.choice(("call", "call", "send", "send", "delayed"))
        fate = random.choice((None, None, None, "cancel", "cancel", "kill"))
        fate_s = random.random() ** 2 * 2.0
        twice = idempotency_key is not None and random.random() < 0.4
        await asyncio.sleep(after_s)
        delay_ms = random.randint(1, 2000) if kind == "delayed" else 0
        body = msgspec.json.encode(arg) if arg is not None else b""

        def request(host: SimHost) -> Request:
            handler = host.resolve(target.service, target.handler)
            at_ms = host.now_ms() + delay_ms if delay_ms else 0
            return Request(target, handler, body, (), idempotency_key, at_ms)

        if twice:
            self.spawn(self._send(target, request, idempotency_key))
        if kind == "call" and idempotency_key is not None and fate is None:
            finished = await self.ask(lambda host: self.call(host, request))
            self.on_accepted(target, finished.invocation_id, idempotency_key)
            self.on_finished(finished)
            return
        inv = await self._send(target, request, idempotency_key)
        if inv is None:
            return
        if fate is not None:
            await asyncio.sleep(fate_s)
            await self.end(inv, fate)
        if random.random() < 0.7:
            await self.attach(inv)

    def _choose(self) -> tuple[Target, Any]:
        random, author = self.random, self.author
        if random.random() < 0.15:
            return request_of(author) if random.random() < 0.6 else shelf.request_of(author)
        choice = random.random()
        if choice < 0.5:
            handler = random.choice(("run", "run", "run", "refuse"))
            return Target("Agent", handler), author.program(random.randint(1, 5))
        if choice < 0.75:
            program = author.program(random.randint(1, 3), 1, is_keyed=True)
            return Target("Box", "hold", author.key()), program
        if choice < 0.95:
            return Target("Counter", "add", author.key()), random.choice((0.0, 0.05, 0.5))
        return Target("Counter", "read", author.key()), None

    async def call(self, host: SimHost, request: Callable[[SimHost], Request]) -> Finished:
        return await host.call(await self._known(host, request))

    async def _known(self, host: SimHost, request: Callable[[SimHost], Request]) -> Request:
        while True:
            try:
                return request(host)
            except NotFoundError:  # No worker has registered yet.
                await asyncio.sleep(0.05)

    async def _send(
        self, target: Target, request: Callable[[SimHost], Request], idempotency_key: str | None
    ) -> str | None:
        if idempotency_key is None:
            return await self.send_once(target, request)
        accepted = await self.ask(lambda host: self.send(host, request))
        self.on_accepted(target, accepted.invocation_id, idempotency_key)
        return accepted.invocation_id

    async def send(self, host: SimHost, request: Callable[[SimHost], Request]) -> Accepted:
        """Send a request, once its handler is known."""
        return await host.send(await self._known(host, request))

    async def send_once(self, target: Target, request: Callable[[SimHost], Request]) -> str | None:
        """Send a request that nothing identifies."""
        try:
            accepted = await self.world.ask(lambda host: self.send(host, request))
        except ConnectionLost:
            return None  # It may exist or not. Repeating could make another one.
        self.on_accepted(target, accepted.invocation_id, None)
        return accepted.invocation_id

    def on_accepted(self, target: Target, inv: str, idempotency_key: str | None) -> None:
        oracle = self.world.oracle
        self.world.trace("accepted", inv)
        self.acked[inv] = str(target)
        if inv not in oracle.lives and not any(p.id == inv for p in oracle.past_lives):
            oracle.fail("S01", f"{inv} was accepted and is not durable")
        if idempotency_key is not None:
            known = self.by_key.setdefault(idempotency_key, inv)
            if known != inv:
                oracle.fail("S10", f"key {idempotency_key} made {known} and {inv}")

    def on_finished(self, finished: Finished) -> None:
        oracle, inv = self.world.oracle, finished.invocation_id
        self.world.trace("finished", inv)
        past = [life for life in oracle.past_lives if life.id == inv]
        lives = [life for life in (oracle.lives.get(inv), *past) if life is not None]
        durable = [life.outcome for life in lives]
        if finished.outcome not in durable:
            oracle.fail("S11", f"{inv}: a client got {finished.outcome}, durable is {durable}")
        if past:
            return  # Others may have got the outcome of an earlier one.
        known = self.outcomes.setdefault(inv, finished.outcome)
        if known != finished.outcome:
            oracle.fail("S11", f"{inv}: two clients got {known} and {finished.outcome}")

    async def attach(self, inv: str) -> None:
        try:
            self.on_finished(await self.ask(lambda host: host.attach(inv)))
        except NotFoundError:
            if inv in self.world.oracle.lives:
                self.world.oracle.fail("S01", f"{inv} exists, and was not found")

    async def end(self, inv: str, how: str) -> None:
        oracle = self.world.oracle
        if how == "cancel":
            signal = Signal(Void(), index=SIGNAL_CANCEL)
            answer: Answer = await self.ask(lambda host: host.signal(inv, signal))
        else:
            answer = await self.ask(lambda host: host.kill(inv))
        self.world.trace(how, inv, answer.reply.name)
        life = oracle.lives.get(inv)
        if answer.reply is Reply.NOT_FOUND and life is not None:
            oracle.fail("S01", f"{inv} exists, and could not be found to {how} it")
        is_over = life is None or (life.row is not None and life.row.status is Status.COMPLETED)
        if how == "kill" and not is_over:
            oracle.fail("S12", f"{inv}: its kill was acknowledged, and it lives")

    # -- awakeables --------------------------------------------------------------------------------

    def resolve(self, awakeable_id: str, how: list[Any]) -> None:
        """An id was published by a handler: complete it after a while, at least once."""
        delay_s, value, is_twice = how
        self._spawn_outside(self._complete(awakeable_id, delay_s, value))
        if is_twice:
            self._spawn_outside(self._complete(awakeable_id, delay_s + 0.05, f"{value}, again"))

    def signal(self, inv: str, name: str, values: list[str]) -> None:
        """A handler waits for signals: send each, after a while and at least once."""
        for number, value in enumerate(values):
            self._spawn_outside(self._signal(inv, name, value, 0.3 * number))

    async def _signal(self, inv: str, name: str, value: str, after_s: float) -> None:
        await asyncio.sleep(after_s + self.random.random())
        signal = Signal(Value(msgspec.json.encode(value)), name=name)
        await self.ask(lambda host: host.signal(inv, signal))

    def _spawn_outside(self, coro: Any) -> None:
        # In a turn of its own: the caller is the body of a step.
        self.world.loop.call_soon(self.spawn, coro, context=self._context())

    def _context(self) -> Any:
        server = self.world.workers or self.world.servers
        context = server[0].process.context.copy() if server else None
        if context is not None:
            from .loop import process

            context.run(process.set, None)
        return context

    async def _complete(self, awakeable_id: str, delay_s: float, value: str) -> None:
        await asyncio.sleep(delay_s)
        inv, index = parse_awakeable_id(awakeable_id)
        signal = Signal(Value(msgspec.json.encode(value)), index=index)
        await self.ask(lambda host: host.signal(inv, signal))
