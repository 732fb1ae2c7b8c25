"""Invocations with little time, and the rules for time limits.

Some undo something when they are told that it has passed, some do not listen and must be killed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import holdfast as hf
from holdfast.domain.message import SIGNAL_CANCEL, Failure, Output, Signal
from holdfast.domain.target import Target
from holdfast.engine.decision import Batch
from holdfast.engine.row import InvocationRow, Table

from . import program

_TIMEOUT_S = 1.5
_ABORT_S = 1.0
_CODE = "HF2030"

brief = hf.Service(
    "Brief", **{**program.OPTIONS, "invocation_timeout": _TIMEOUT_S, "abort_timeout": _ABORT_S}
)


@brief.handler
async def work(ctx: hf.Context, request: tuple[bool, list[program.Op]]) -> list[Any]:
    is_deaf, ops = request
    try:
        return [await program.perform(ctx, op) for op in ops]
    except hf.TerminalError as error:
        if error.code != program.CANCELLED:
            raise
        program.see(ctx, "cancelled", error.message)
        if is_deaf:
            await ctx.sleep(1_000)
        return await ctx.run("undo", program.Body(ctx, "undo").work, 0.0)


def request_of(author: program.Author) -> tuple[Target, Any]:
    """Return a request, often for more than can be done in time."""
    ops = author.program(author.random.randint(1, 2), 1)
    if author.random.random() < 0.5:
        ops.append(["sleep", "long", 5.0])
    return Target("Brief", "work"), [author.random.random() < 0.4, ops]


class LimitRules:
    """No limit strikes early, and each strikes once."""

    def __init__(self, fail: Callable[[str, str], NoReturn]) -> None:
        self._fail = fail
        self._told: set[tuple[str, int]] = set()

    def on_commit(self, batch: Batch) -> None:
        """A batch is about to be written.

        What counts is when it was decided: the clock may have been set back since.
        """
        for stored in batch.journal:
            row = batch.rows.get((Table.INVOCATION, stored.invocation_id))
            if not isinstance(row, InvocationRow):
                continue
            if row.restarted is not None and stored.index < row.restarted.entry_count:
                continue  # It was struck in the life before.
            match stored.entry:
                case Signal(result=Failure() as why, index=1):
                    self._on_cancelled(row, why, stored.at_ms)
                # The first entry is an outcome that was kept when its journal was purged.
                case Output(result=Failure(message=text)) if stored.index:
                    if text.startswith("killed") and _CODE in text:
                        self._on_killed(row, stored.at_ms)
                case _:
                    pass

    def _on_cancelled(self, row: InvocationRow, why: Failure, at_ms: int) -> None:
        assert SIGNAL_CANCEL == 1
        life = (row.id, row.created_at_ms)
        if _CODE not in why.message or life in self._told:
            self._fail("S31", f"{row.id} was cancelled a second time or for nothing: {why}")
        self._told.add(life)
        if at_ms < _due_ms(row):
            self._fail("S31", f"{row.id} was out of time at {at_ms}, due {_due_ms(row)}")

    def _on_killed(self, row: InvocationRow, at_ms: int) -> None:
        if (row.id, row.created_at_ms) not in self._told:
            self._fail("S31", f"{row.id} was killed for its limit and not cancelled before")
        if at_ms < _due_ms(row) + round(_ABORT_S * 1000):
            self._fail("S31", f"{row.id} was killed at {at_ms}, due {_due_ms(row)}")


def _due_ms(row: InvocationRow) -> int:
    return max(row.created_at_ms, row.execute_at_ms) + round(_TIMEOUT_S * 1000)
