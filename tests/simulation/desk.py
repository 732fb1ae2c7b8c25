"""Handlers that ask people, people who decide at the same time, and the rules for both.

An approval has one end, and everybody is told the same one: who decided, the inbox, and the
handler, whatever crashes in between. A decision that was answered counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn, cast
from weakref import WeakKeyDictionary

import msgspec

import holdfast as hf
from holdfast.domain.approval import ApprovalStatus
from holdfast.domain.ids import awakeable_id
from holdfast.domain.message import Signal
from holdfast.domain.target import Target
from holdfast.engine.row import ApprovalRow, Table, approval_of_slot
from holdfast.server.approval_port import Verdict
from holdfast.server.handle import Request
from holdfast.storage.base import ApprovalFilter
from holdfast.storage.memory import MemoryStore

from . import program

if TYPE_CHECKING:
    from .workload import Clients
    from .world import SimHost, World

SERVICE = "Desk"
_SHARE = 0.4
"""Of the runs that have desks."""
_EVERYBODY = ApprovalFilter(service=SERVICE)
_DECIDED = (ApprovalStatus.APPROVED, ApprovalStatus.REJECTED)

desk = hf.Service(SERVICE, **program.OPTIONS)


class DeskRules:
    """Of each approval one end is told."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ends: dict[str, str] = {}

    def on_end(self, approval_id: str, end: str, who: str) -> None:
        """Somebody was told how an approval ended."""
        known = self._ends.setdefault(approval_id, end)
        if known != end:
            self._world.oracle.fail("S60", f"{approval_id}: {who} was told {end}, before: {known}")


_rules: WeakKeyDictionary[World, DeskRules] = WeakKeyDictionary()


def rules_of(world: World) -> DeskRules:
    """Return the rules of a run."""
    return _rules.setdefault(world, DeskRules(world))


def is_of_closed_approval(store: MemoryStore, invocation_id: str, slot: str) -> bool:
    """Whether a timer is the deadline of an approval that has ended otherwise."""
    index = approval_of_slot(slot)
    rows = [
        row
        for partition in store._partitions
        if (row := partition.approvals.get(invocation_id, {}).get(index or 0)) is not None
    ]
    return any(row.status is not ApprovalStatus.OPEN for row in rows)


def check_approvals(store: MemoryStore, fail: Callable[[str, str], NoReturn]) -> None:
    """Nothing is under way any more: what people see fits the invocations and their journals."""
    for partition in store._partitions:
        for place, row in list(partition.rows.items()):
            if not isinstance(row, ApprovalRow):
                continue
            _, invocation_id, index = cast("tuple[Table, str, int]", place)
            if (Table.INVOCATION, invocation_id) not in partition.rows:
                fail("S61", f"approval {index} of {invocation_id} has outlived it")
            if row.status is ApprovalStatus.OPEN:
                fail("S61", f"approval {index} of {invocation_id} is open, and all is complete")
            if row.decision_index is None:
                continue
            stored = partition.journals.get(invocation_id, {}).get(row.decision_index)
            is_purged = len(partition.journals.get(invocation_id, {})) == 1
            entry = None if stored is None else stored.entry
            if not is_purged and not (isinstance(entry, Signal) and entry.index == index):
                fail("S61", f"approval {index} of {invocation_id}: {entry} is no decision")


@desk.handler
async def ask(ctx: hf.Context, questions: list[list[Any]]) -> list[Any]:
    return await asyncio.gather(*(_ask(ctx, *question) for question in questions))


async def _ask(ctx: hf.Context, name: str, timeout_s: float | None, patience_s: float) -> list[Any]:
    approval = ctx.approve(name, timeout=timeout_s, name=name)
    await ctx.run(f"{name}/look", program.Body(ctx, f"{name}/look").work, 0.0)
    try:
        async with asyncio.timeout(patience_s):
            decision = await approval
    except TimeoutError:
        return program.see(ctx, name, ["given up"])
    end = "expired" if decision.timed_out else f"{decision.approved} {decision.by}"
    rules_of(program.bench().world).on_end(approval.id, end, "the handler")
    return program.see(ctx, name, [end])


class Desks:
    """Clients that have something asked, and people who look into the inbox and decide."""

    def __init__(self, clients: Clients, span_s: float) -> None:
        self._clients = clients
        self._random = Random(f"{clients.world.seed}/desks")
        self._rules = rules_of(clients.world)
        self._span_s = span_s

    def begin(self) -> None:
        """Arrange all questions and decisions."""
        random = self._random
        if random.random() >= _SHARE:
            return
        for number in range(random.randint(1, 3)):
            questions = [
                [f"q{number}.{n}", random.choice((None, 0.3, 1.0)), random.choice((0.5, 3.0, 9.0))]
                for n in range(random.randint(1, 3))
            ]
            fate = random.choice((None, None, None, "kill", "cancel"))
            after_s = random.random() * self._span_s
            self._clients.spawn(self._send(questions, number, fate, after_s))
        for number in range(random.randint(1, 3)):
            self._clients.spawn(self._decide(f"p{number}", random.randint(2, 6)))

    async def _send(
        self, questions: list[list[Any]], number: int, fate: str | None, after_s: float
    ) -> None:
        clients, target = self._clients, Target(SERVICE, "ask")
        await asyncio.sleep(after_s)
        body = msgspec.json.encode(questions)

        def request(host: SimHost) -> Request:
            return Request(target, host.resolve(SERVICE, "ask"), body, (), f"desk{number}")

        accepted = await clients.ask(lambda host: clients.send(host, request))
        clients.on_accepted(target, accepted.invocation_id, f"desk{number}")
        if fate is not None:
            await asyncio.sleep(self._random.random())
            await clients.end(accepted.invocation_id, fate)
        await clients.attach(accepted.invocation_id)

    async def _decide(self, who: str, count: int) -> None:
        random, clients = self._random, self._clients
        for turn in range(count):
            await asyncio.sleep(random.random() * 2 * self._span_s / count)
            found = await clients.ask(lambda host: host.approvals.find(_EVERYBODY, None, 50))
            for each in found:
                approval_id = awakeable_id(each.invocation_id, each.signal_index)
                if each.row.status is not ApprovalStatus.OPEN:
                    self._on_row(approval_id, each.row.status, each.row.by)
                elif random.random() < 0.7:
                    by = f"{who}.{turn}"
                    self._clients.spawn(self._say(approval_id, random.random() < 0.5, by))

    async def _say(self, approval_id: str, is_approved: bool, by: str) -> None:
        verdict = Verdict(is_approved, by=by)
        try:
            after = await self._clients.ask(
                lambda host: host.approvals.decide(approval_id, verdict)
            )
        except hf.ConflictError:
            # Perhaps by the same request, whose answer was lost.
            self._clients.world.count("decisions too late")
        except hf.NotFoundError:
            self._clients.world.count("decisions of what is gone")
        else:
            self._clients.world.count("decisions")
            self._on_row(approval_id, after.row.status, after.row.by)
            if after.row.by != by:
                self._clients.world.oracle.fail("S60", f"{approval_id}: {by} was told {after.row}")

    def _on_row(self, approval_id: str, status: ApprovalStatus, by: str) -> None:
        if status in _DECIDED:
            is_approved = status is ApprovalStatus.APPROVED
            self._rules.on_end(approval_id, f"{is_approved} {by}", "the inbox")
        elif status is ApprovalStatus.EXPIRED:
            self._rules.on_end(approval_id, "expired", "the inbox")
