"""Invocations that write to a stream, readers who come and go, and the rules for what they see.

Code of the handler says `h0`, `h1`, …; the body of a step says `name.run.0`, `name.run.1`, …, where
`run` counts how often the body has begun. So every chunk tells who wrote it, and when.
"""

from __future__ import annotations

import asyncio
from collections import deque
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

import holdfast as hf
from holdfast.domain.errors import NotFoundError
from holdfast.domain.message import Emit, Emitted, Value
from holdfast.domain.target import Target
from holdfast.engine.decision import Publish
from holdfast.engine.record import HandlerSent
from holdfast.engine.row import AnnexRow, StreamRow, Table, slot_of_writer
from holdfast.ingress.stream_format import is_news
from holdfast.server.handle import Finished, Request
from holdfast.server.stream_port import Page
from holdfast.storage.memory import MemoryStore

from . import program

if TYPE_CHECKING:
    from .checker import Oracle
    from .workload import Clients
    from .world import SimHost

STREAM = "default"
_SHARE = 0.5
"""Of the runs that have tellers."""

teller = hf.Service("Teller", **program.OPTIONS)


@teller.handler
async def tell(ctx: hf.Context, acts: list[list[Any]]) -> list[Any]:
    said = 0
    heard: list[Any] = []
    for act in acts:
        match act:
            case ["say", int() as count]:
                for _ in range(count):
                    await ctx.emit(f"h{said}")
                    said += 1
            case ["nap", float() as seconds]:
                await ctx.sleep(seconds)
            case ["ask", *steps]:
                heard += await asyncio.gather(*(_ask(ctx, *step) for step in steps))
    return [said, heard]


async def _ask(ctx: hf.Context, name: str, count: int, gap_s: float, failures: int) -> list[Any]:
    body = program.Body(ctx, name)

    async def model() -> list[Any]:
        run = body.begin()
        for number in range(count):
            hf.emit(f"{name}.{run}.{number}")
            if gap_s:
                await asyncio.sleep(gap_s)
            if run <= failures and number == count // 2:
                raise RuntimeError(f"failure {run} of {failures}")
        return [name, run, count]

    result: list[Any] = await ctx.run(name, model)
    return result


def _acts(random: Random) -> list[list[Any]]:
    acts: list[list[Any]] = []
    for number in range(random.randint(2, 5)):
        kind = random.choice(("say", "say", "ask", "ask", "ask", "nap"))
        if kind == "say":
            acts.append(["say", random.randint(1, 4)])
        elif kind == "nap":
            acts.append(["nap", round(random.random(), 3)])
        else:
            steps = (
                [f"m{number}{letter}", random.randint(1, 6), gap, random.choice((0, 0, 1))]
                for letter in "ab"[: random.randint(1, 2)]
                for gap in (random.choice((0.0, 0.01, 0.2)),)
            )
            acts.append(["ask", *steps])
    return acts


class Tellers:
    """Clients who ask for a tale and read it while it is told."""

    def __init__(self, clients: Clients, span_s: float) -> None:
        self._clients = clients
        self._random = Random(f"{clients.world.seed}/tellers")
        self._span_s = span_s

    def begin(self) -> None:
        """Arrange all of them."""
        if self._random.random() < _SHARE:
            for number in range(self._random.randint(1, 3)):
                after_s = self._random.random() * self._span_s
                self._clients.spawn(self._client(f"t{number}", _acts(self._random), after_s))

    async def _client(self, idempotency_key: str, acts: list[list[Any]], after_s: float) -> None:
        await asyncio.sleep(after_s)
        target, clients = Target("Teller", "tell"), self._clients

        def request(host: SimHost) -> Request:
            handler = host.resolve(target.service, target.handler)
            return Request(target, handler, msgspec.json.encode(acts), (), idempotency_key)

        accepted = await clients.ask(lambda host: clients.send(host, request))
        clients.on_accepted(target, accepted.invocation_id, idempotency_key)
        for number in range(self._random.randint(1, 2)):
            reader = Reader(clients, accepted.invocation_id, number)
            clients.spawn(reader.read(self._random.choice((0.0, 0.0, 1.0))))


class Reader:
    """Reads a stream, with connections that do not last, and puts together what it gets."""

    def __init__(self, clients: Clients, inv: str, number: int) -> None:
        self._clients = clients
        self._oracle = clients.world.oracle
        self._random = Random(f"{clients.world.seed}/{inv}/{number}")
        self._inv = inv
        self._after = 0
        self._shown: dict[int, tuple[int, str]] = {}
        """Lane and text, by id."""
        self._finished: Finished | None = None

    async def read(self, after_s: float) -> None:
        """Read to the end, however often the connection is lost."""
        await asyncio.sleep(after_s)
        while self._finished is None:
            try:
                await self._clients.ask(self._read_some)
            except NotFoundError:
                return  # Its retention has passed, or a person has purged it.
            self._clients.world.count("stream connections")
        self._judge()

    async def _read_some(self, host: SimHost) -> None:
        """Read until the connection is lost, after few pages or many."""
        source = await host.streams.open(self._inv, STREAM)
        try:
            for _ in range(self._random.choice((1, 2, 5, 50))):
                item = await source.next(self._after, 0.5)
                if isinstance(item, Finished):
                    self._finished = item
                    return
                if item is not None:
                    self._take(item)
        finally:
            source.close()

    def _take(self, page: Page) -> None:
        for first_id, row in page.rows:
            if first_id <= self._after:
                self._oracle.fail("S41", f"{self._inv}: {first_id} was shown again")
            for chunk_id, chunk in enumerate(row.chunks, first_id):
                self._shown[chunk_id] = (row.lane, msgspec.json.decode(chunk))
            if not row.chunks and is_news(page, row):
                self._shown = {i: s for i, s in self._shown.items() if s[0] != row.lane}
                self._clients.world.count("lanes replaced")
        self._after = page.last_id
        self._clients.world.count("pages read")
        self._check_runs()

    def _texts(self) -> list[str]:
        return [self._shown[i][1] for i in sorted(self._shown)]

    def _check_runs(self) -> None:
        runs: dict[str, str] = {}
        for text in self._texts():
            name, _, rest = text.partition(".")
            run = rest.partition(".")[0]
            if rest and runs.setdefault(name, run) != run:
                self._oracle.fail("S42", f"{self._inv}: {name} is shown of two runs: {text}")

    def _judge(self) -> None:
        """All has been told: it is what the handler knows, and what one who comes last gets."""
        oracle, inv = self._oracle, self._inv
        if inv in oracle.may_purge | oracle.may_purge_journal or inv not in oracle.lives:
            return
        stored = oracle.teller.stored(inv)
        if self._shown != stored:
            oracle.fail("S43", f"{inv}: a reader has {self._shown}, a later one {stored}")
        assert self._finished is not None
        outcome = self._finished.outcome
        if not isinstance(outcome, Value):
            return
        said, heard = msgspec.json.decode(outcome.content)
        texts = self._texts()
        if [t for t in texts if "." not in t] != [f"h{n}" for n in range(said)]:
            oracle.fail("S43", f"{inv}: the handler said {said} things, and there are {texts}")
        for name, run, count in heard:
            expected = [f"{name}.{run}.{n}" for n in range(count)]
            if [t for t in texts if t.startswith(f"{name}.")] != expected:
                oracle.fail("S43", f"{inv}: {name} ended with run {run}, and there are {texts}")
        self._clients.world.count("tales")


class TellerRules:
    """Nothing is shown, and no chunk is said to be stored, before it is durable."""

    def __init__(self, oracle: Oracle, store: MemoryStore) -> None:
        self._oracle = oracle
        self._store = store
        self._sent: dict[tuple[str, int], deque[Emit]] = {}
        """Chunks that were proposed and not acknowledged, by invocation and attempt."""

    def on_sent(self, record: HandlerSent) -> None:
        """A handler's messages were proposed."""
        place = (record.invocation_id, record.attempt)
        emits = (m for m in record.messages if isinstance(m, Emit) and m.chunks)
        self._sent.setdefault(place, deque()).extend(emits)

    def on_publish(self, partition: int, action: Publish) -> None:
        """Readers are about to see a row."""
        rows = self._store._partitions[partition].rows
        if (Table.INVOCATION, action.invocation_id) not in rows:
            return
        found = rows.get((Table.STREAM, action.invocation_id, action.stream, action.first_id))
        if found == action.row or self._is_lost(action):
            return
        self._oracle.fail("DURABLE", f"{action} was shown before it was durable")

    def on_stored(self, partition: int, inv: str, attempt: int, emitted: Emitted) -> None:
        """A handler is about to be told that chunks are stored."""
        emit = self._sent[inv, attempt].popleft()
        assert len(emit.chunks) == emitted.chunk_count
        rows = self._store._partitions[partition].rows
        found = rows.get((Table.ANNEX, inv, slot_of_writer(emit.writer)))
        life = self._oracle.lives.get(inv)
        if life is None or life.outcome is not None:
            return
        lanes = found.writer.lanes if isinstance(found, AnnexRow) and found.writer else ()
        next_number = next((n.next_number for n in lanes if n.stream == emit.stream), 0)
        if next_number < emit.first_number + len(emit.chunks):
            self._oracle.fail("DURABLE", f"{inv}: chunks were acknowledged before: {emit}")

    def stored(self, inv: str) -> dict[int, tuple[int, str]]:
        """Return what one who comes last gets."""
        return {
            chunk_id: (row.lane, msgspec.json.decode(chunk))
            for first_id, row in self._rows(inv, STREAM)
            for chunk_id, chunk in enumerate(row.chunks, first_id)
        }

    def _is_lost(self, action: Publish) -> bool:
        """Whether a lane was lost, or the journal purged, in the commit that wrote it."""
        rows = self._rows(action.invocation_id, action.stream)
        is_noted = any(not row.chunks and row.lane == action.row.lane for _, row in rows)
        return is_noted or action.invocation_id in self._oracle.may_purge_journal

    def _rows(self, inv: str, stream: str) -> list[tuple[int, StreamRow]]:
        return sorted(
            (key[3], row)
            for partition in self._store._partitions
            for key, row in partition.rows.items()
            if isinstance(row, StreamRow) and key[1:3] == (inv, stream)
        )  # type: ignore[return-value]
