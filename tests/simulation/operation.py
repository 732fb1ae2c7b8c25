"""A person who pauses, resumes, restarts and purges whatever is there, at random."""

from __future__ import annotations

import asyncio
from random import Random

from holdfast.domain.message import SIGNAL_CANCEL, Signal, Void
from holdfast.engine.decision import Reply
from holdfast.engine.row import Status

from .life import Life
from .workload import Clients

_ACTIVE_SHARE = 0.35
"""Of the runs: the others are as they would be without."""
_RESTARTS_MAX = 4
_PATIENCE_S = 4.0
"""How long a restarted invocation may wait for an awakeable whose new id nobody knows."""


class Person:
    """Someone with a command line."""

    def __init__(self, clients: Clients, span_s: float) -> None:
        self.clients = clients
        self.world = clients.world
        self.random = Random(f"{self.world.seed}/person")
        self._span_s = span_s
        self._restart_count = 0

    def begin(self) -> None:
        """Arrange what will be done."""
        if self.random.random() < _ACTIVE_SHARE:
            self.clients.spawn(self._work(self.random.randint(4, 16)))

    async def _work(self, count: int) -> None:
        random = self.random
        for _ in range(count):
            await asyncio.sleep(random.random() * 2 * self._span_s / count)
            lives = [life for life in self.world.oracle.lives.values() if life.row is not None]
            if not lives:
                continue
            life = random.choice(lives)
            assert life.row is not None
            if life.row.status is not Status.COMPLETED:
                self.clients.spawn(self._pause(life.id))
            elif random.random() < 0.6:
                await self._restart(life)
            else:
                await self._purge(life)

    async def _pause(self, inv: str) -> None:
        answer = await self.clients.ask(lambda host: host.operations.pause(inv))
        self.world.count(f"pause {answer.reply.name}")
        await asyncio.sleep(self.random.random() * 2)
        await self.resume(inv)

    async def resume(self, inv: str) -> None:
        """Resume an invocation; what it waits for may come while it is on its way."""
        self.world.oracle.may_resume.add(inv)
        answer = await self.clients.ask(lambda host: host.operations.resume(inv))
        self.world.trace("resume", inv, answer.reply.name)

    async def _restart(self, life: Life) -> None:
        if self._restart_count >= _RESTARTS_MAX:
            return
        self._restart_count += 1
        assert life.row is not None
        # A counter that was read in the kept part would be written back as it was then.
        is_whole = life.row.target.service == "Counter" or self.random.random() < 0.3
        index = 0 if is_whole else self.random.randrange(len(life.entries))
        key = str(self._restart_count)
        inv, oracle = life.id, self.world.oracle
        new, answer = await self.clients.ask(
            lambda host: host.operations.restart(inv, index, idempotency_key=key)
        )
        self.world.count(f"restart {answer.reply.name}")
        if answer.reply in (Reply.ACCEPTED, Reply.PREVIOUSLY_ACCEPTED):
            if new not in oracle.lives and all(past.id != new for past in oracle.past_lives):
                oracle.fail("S01", f"{inv} was restarted as {new}, which is not durable")
            if index:
                self.clients.spawn(self._give_up(new))

    async def _give_up(self, inv: str) -> None:
        await asyncio.sleep(_PATIENCE_S)
        signal = Signal(Void(), index=SIGNAL_CANCEL)
        await self.clients.ask(lambda host: host.signal(inv, signal))

    async def _purge(self, life: Life) -> None:
        oracle, inv = self.world.oracle, life.id
        assert life.row is not None
        # A repeated request of a client would make another one of the same id. Clients of workflows
        # know that.
        has_name = life.row.idempotency_key is not None
        is_journal_only = has_name or self.random.random() < 0.5
        (oracle.may_purge_journal if is_journal_only else oracle.may_purge).add(inv)
        answer = await self.clients.ask(
            lambda host: host.operations.purge(inv, is_journal_only=is_journal_only)
        )
        self.world.count(f"purge {answer.reply.name}")
        if not is_journal_only and life is oracle.lives.get(inv):
            oracle.fail("S28", f"{inv} was purged, and is there")
