"""Steps that must not run twice, and the rule for them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import holdfast as hf

from . import program

RULE = "S35"


class OnceBody(program.Body):
    """The body of a step that fails if nobody knows whether it happened."""

    def __init__(self, ctx: hf.Context, name: str) -> None:
        super().__init__(ctx, name)
        # A workflow that was purged begins again, with the same id.
        self._life = (ctx.id, ctx._attempt.machine.start.created_at_ms, name)

    async def once(self, seconds: float, failures: int) -> list[Any]:
        """Take a while. Failures are known, so it may begin again after them."""
        begun: Counter[Any] = program.bench().begun_once
        begun[self._life] += 1
        allowed = program.bench().failed_once[self._life] + 1
        if begun[self._life] > allowed:
            program.bench().world.oracle.fail(RULE, f"{self._life} has begun a second time")
        if begun[self._life] <= failures:
            self.begin()
            program.bench().failed_once[self._life] += 1
            raise RuntimeError(f"failure {begun[self._life]} of {failures}")
        return await self.work(seconds)


async def once(ctx: hf.Context, name: str, seconds: float, failures: int) -> list[Any]:
    """Run a step that must not run twice."""
    return await ctx.run(name, OnceBody(ctx, name).once, seconds, failures, on_unknown="fail")
