"""State that expires and state that people edit: a handler, its editors, and the rules for both."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Any, cast

import holdfast as hf
from holdfast.domain.message import SetState
from holdfast.domain.target import Target
from holdfast.engine.decision import Batch, Reply
from holdfast.engine.row import InvocationRow, LockRow, StateEdit, StateRow, Table

from . import program

if TYPE_CHECKING:
    from .checker import Oracle
    from .workload import Clients

SERVICE = "Shelf"
_NAMES = ("a", "b")

shelf = hf.VirtualObject(SERVICE, **program.OPTIONS)


@shelf.handler
async def put(ctx: hf.Context, request: list[Any]) -> list[Any]:
    name, ttl_s, wait_s = request
    ctx.set(name, ctx.id, ttl=ttl_s)
    await ctx.sleep(wait_s)
    now_ms = round(ctx.now().timestamp() * 1000)
    seen, names = await ctx.get(name), await ctx.keys()
    program.bench().world.oracle.shelf.on_read(ctx.key, name, now_ms, seen, names)
    listed = [each for each in names if each in _NAMES]
    # A read that is not recorded yet may be another one in the next attempt, since time passes.
    await ctx.sleep(0)
    return cast("list[Any]", program.see(ctx, name, [seen, listed]))


def request_of(author: program.Author) -> tuple[Target, Any]:
    """Return a request, often for a wait that is longer than what it writes exists."""
    random = author.random
    ttl_s, wait_s = round(0.01 + random.random() ** 3, 3), round(random.random() ** 2 * 2, 3)
    return Target(SERVICE, "put", author.key()), [random.choice(_NAMES), ttl_s, wait_s]


class Editors:
    """People who write entries of their own, each once, each under another name."""

    def __init__(self, clients: Clients, span_s: float) -> None:
        self._clients = clients
        self._random = Random(f"{clients.world.seed}/editors")
        self._span_s = span_s

    def begin(self) -> None:
        """Arrange all edits."""
        for number in range(self._random.randint(0, 5)):
            after_s = self._random.random() * self._span_s
            self._clients.spawn(self._edit(f"e{number}", self._clients.author.key(), after_s))

    async def _edit(self, name: str, key: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        edit = StateEdit(((name, name.encode()),))
        answer = await self._clients.ask(lambda host: host.edit_state(SERVICE, key, edit))
        self._clients.world.count(f"edit {answer.reply.name}")
        if answer.reply in (Reply.ACCEPTED, Reply.QUEUED):
            self._clients.world.oracle.shelf.promised.add((key, name))


class ShelfRules:
    """No entry outlives its time or dies before it; edits wait for their turn and are not lost."""

    def __init__(self, oracle: Oracle) -> None:
        self.promised: set[tuple[str, str]] = set()
        """Edits that somebody was told to be durable."""
        self._oracle = oracle
        self._rows: dict[tuple[str, str], StateRow] = {}

    def on_commit(self, batch: Batch, now_ms: int) -> None:
        """A batch is about to be written."""
        for stored in batch.journal:
            row = batch.rows.get((Table.INVOCATION, stored.invocation_id))
            entry = stored.entry
            if not isinstance(row, InvocationRow) or not isinstance(entry, SetState):
                continue
            if row.restarted is not None and stored.index < row.restarted.entry_count:
                # Copied from another journal: it was written then, and is not written again.
                continue
            target = row.target
            if target.service == SERVICE and target.key is not None:
                content = StateRow(entry.value.content, entry.expires_at_ms)
                self._rows[target.key, entry.state_key] = content
        for place, row in batch.rows.items():
            if place[0] is not Table.STATE or place[1] != SERVICE:
                continue
            key, name = cast("tuple[str, str]", place[2:])
            if name.startswith("e"):
                self._on_edit(batch, key, name)
                continue
            known = self._rows.get((key, name))
            if row is None:
                if known is None or known.is_live(now_ms):
                    self._oracle.fail("S33", f"{key}/{name} was removed at {now_ms}: {known}")
                del self._rows[key, name]
            elif row != known:
                self._oracle.fail("S09", f"{key}/{name} is {row}, its journals say {known}")

    def _on_edit(self, batch: Batch, key: str, name: str) -> None:
        holders = self._oracle.holders.get((SERVICE, key), set())
        place = (Table.LOCK, SERVICE, key)
        lock = batch.rows.get(place)
        stays = place not in batch.rows or (isinstance(lock, LockRow) and lock.holder in holders)
        if holders and stays:
            self._oracle.fail("S32", f"{key}/{name} was edited under {sorted(holders)}")

    def on_read(self, key: str, name: str, now_ms: int, seen: object, names: list[str]) -> None:
        """A handler has read what it had written, at its own time."""
        known = self._rows.get((key, name))
        if known is not None and not known.is_live(now_ms) and (seen is not None or name in names):
            self._oracle.fail("S33", f"{key}/{name} was read at {now_ms}: {known}")

    def check_rest(self, states: Mapping[tuple[str, str], Mapping[str, StateRow]]) -> None:
        """Everything is complete, and all time has passed."""
        for (service, key), rows in states.items():
            left = [name for name, row in rows.items() if row.expires_at_ms]
            if service == SERVICE and left:
                self._oracle.fail("S33", f"{key} still has {left}")
        for key, name in self.promised:
            if name not in states.get((SERVICE, key), {}):
                self._oracle.fail("S32", f"the edit of {key}/{name} was lost")
