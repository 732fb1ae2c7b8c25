"""Operations of programs that end others: races, sagas, and signals from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

import holdfast as hf
from holdfast.domain.message import Signal, Value

if TYPE_CHECKING:
    from .checker import Oracle

Op = list[Any]
Perform = Callable[[hf.Context, Op], Awaitable[Any]]


async def race(ctx: hf.Context, ops: list[Op], perform: Perform) -> list[Any]:
    """Run operations side by side until one of them ends."""
    winner = await hf.race(*(perform(ctx, op) for op in ops))
    return [winner.index, winner.value]


async def saga(
    ctx: hf.Context, name: str, ops: list[Op], is_refused: bool, perform: Perform, body: Any
) -> Any:
    """Run operations, each with an undo; perhaps refuse in the end."""
    async with hf.saga() as undos:
        for number, op in enumerate(ops):
            label = f"{name}/undo{number}"
            undos.compensate(body(ctx, label).work, 0.01, name=label)
            await perform(ctx, op)
        if is_refused:
            raise hf.TerminalError("refused", code=418)
    return "kept"


async def signals(ctx: hf.Context, name: str, values: list[str], oracle: Oracle) -> list[str]:
    """Take as many signals as are sent, in the order in which they were recorded."""
    taken: list[str] = []
    for _ in values:
        taken.append(await ctx.signal(name, str))
        check_order(oracle, ctx.id, name, taken)
    return taken


def check_order(oracle: Oracle, inv: str, name: str, taken: list[str]) -> None:
    """No signal is lost, none is taken twice, and none before an earlier one."""
    life = oracle.lives.get(inv)
    if life is None or life.is_journal_purged:
        return
    recorded = [e.result for e in life.entries if isinstance(e, Signal) and e.name == name]
    if [Value(msgspec.json.encode(value)) for value in taken] != recorded[: len(taken)]:
        oracle.fail("S16", f"{inv}: signals {name} were {recorded}, taken were {taken}")
