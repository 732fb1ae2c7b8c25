"""One run: chaos, then peace, then a look at what is left."""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from holdfast.domain.message import Value
from holdfast.engine.limit import PROMISE_RETENTION_MS
from holdfast.engine.row import Status, promises_of_slot

from . import program
from .checker import Violation
from .desk import check_approvals
from .faults import Faults, draw
from .loop import Deadlock, SimLoop, process, run
from .operation import Person
from .prompt import PROMPT_TABLES
from .store import tables
from .workload import Clients
from .world import World

CHAOS_S = 8.0
PEACE_S_MAX = 120.0
_RETENTION_MS = PROMISE_RETENTION_MS + 4_000_000
_LEFT = ("DEDUP", "PARTITION", "STATE")


@dataclass
class Report:
    """What a run did."""

    seed: int
    trace_hash: str
    simulated_s: float
    commits: int
    dispatches: int
    step_runs: int
    invocations: int
    counts: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)


class _Errors(logging.Handler):
    """Collects what production code logs as an error."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "has stopped" not in text:
            owner = process.get()
            partition = getattr(record, "partition_id", None)
            # A server that was replaced, and does not know, may read rows of its successor.
            if owner and partition is not None and self._world.is_replaced(owner.name, partition):
                return
            error = record.exc_info[1] if record.exc_info else ""
            self.records.append(f"{text}: {error!r}")


def commit_hash() -> str:
    """Return the commit that is checked out."""
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, check=False
    )
    return done.stdout.decode().strip() or "unknown"


class Simulation:
    """Makes a run, and judges it."""

    def __init__(
        self,
        seed: int,
        faults: Faults | None = None,
        *,
        is_traced: bool = False,
        make_clients: Callable[[World, float], Clients] = Clients,
    ) -> None:
        self.seed = seed
        self.loop = SimLoop()
        if faults is None:
            faults = draw(Random(f"{seed}/faults"), CHAOS_S)
        self.world = World(seed, self.loop, faults, program.make_app)
        if is_traced:
            self.world.lines = []
        self.clients = make_clients(self.world, CHAOS_S * 0.8)
        self.person = Person(self.clients, CHAOS_S * 0.8)
        self.bench = program.Bench(self.world, self.clients.resolve, self.clients.signal)
        self._errors = _Errors(self.world)

    def run(self) -> Report:
        """Run.

        Raises:
            Violation: With the seed and how to repeat.
        """
        program.use(self.bench)
        logger = logging.getLogger("holdfast")
        level, propagate = logger.level, logger.propagate
        logger.addHandler(self._errors)
        logger.setLevel(logging.ERROR)
        logger.propagate = False
        try:
            run(self.loop, self.main())
            self._check_errors()
        except (Violation, Deadlock) as error:
            raise self._explain(error) from error
        finally:
            logger.removeHandler(self._errors)
            logger.setLevel(level)
            logger.propagate = propagate
        world = self.world
        return Report(
            self.seed,
            world.trace_hash(),
            world.true_s() - 1000.0,
            world.oracle.commit_count,
            world.dispatch_number,
            world.oracle.step_runs,
            len(world.oracle.lives) + len(world.oracle.past_lives),
            world.counts,
            world.lines or [],
        )

    def _explain(self, error: Exception) -> Violation:
        error = self.world.oracle.first or error
        invariant = error.invariant if isinstance(error, Violation) else "L01"
        what = error.what if isinstance(error, Violation) else str(error)
        told = Violation(
            invariant,
            f"{what}\n  seed {self.seed}, at {self.world.true_s():.3f} s,"
            f" commit {commit_hash()}\n  repeat: python -m tests.simulation --seed {self.seed}"
            " --trace",
        )
        told.lines = self.world.lines or []  # type: ignore[attr-defined]
        return told

    # -- phases ------------------------------------------------------------------------------------

    async def main(self) -> None:
        world = self.world
        world.start_server()
        for _ in range(world.random.choice((1, 2))):
            world.start_worker()
        self.clients.begin()
        self.person.begin()
        world.schedule_faults()
        await self._pass(CHAOS_S)
        world.heal()
        await self._finish()
        self._judge()
        await self._forget()

    async def _pass(self, seconds: float) -> None:
        """Let time pass; stop at the first violation."""
        until_s = self.world.true_s() + seconds
        while self.world.true_s() < until_s:
            await asyncio.sleep(0.1)
            self._check()

    def _check(self) -> None:
        if self.world.oracle.first is not None:
            raise self.world.oracle.first
        self._check_errors()

    def _check_errors(self) -> None:
        for text in (*self._errors.records, *self.loop.errors):
            raise Violation("ERROR", text)

    def _live(self) -> list[Any]:
        lives = self.world.oracle.lives.values()
        return [it for it in lives if it.row is not None and it.row.status is not Status.COMPLETED]

    async def _finish(self) -> None:
        """Wait until nothing is left to do."""
        until_s = self.world.true_s() + PEACE_S_MAX
        while self.world.true_s() < until_s:
            await self._pass(0.5)
            for life in self._live():
                # A pause may have been on its way while its resume was answered.
                if life.row.status is Status.PAUSED:
                    await self.person.resume(life.id)
            left = tables(self.world.store)
            if not self.clients.tasks and not self._live() and "OUTBOX" not in left:
                return
        names = [f"{it.id} {it.row.target} {it.row.status.name}" for it in self._live()]
        raise Violation(
            "L01",
            f"after {PEACE_S_MAX} s of peace {len(self.clients.tasks)} clients wait, and"
            f" {names}; left {tables(self.world.store)}",
        )

    def _judge(self) -> None:
        """Check what is left when all is done."""
        world, oracle = self.world, self.world.oracle
        left = {name: rows for name, rows in tables(world.store).items() if name not in _LEFT}
        left.pop("INVOCATION", None)
        left.pop("STREAM", None)
        left.pop("APPROVAL", None)
        check_approvals(world.store, oracle.fail)
        for table in PROMPT_TABLES:
            left.pop(table.name, None)
        oracle.prompts.check_rest(world.store)
        left.pop("PROMISE", None)
        # Those of promises without a main invocation.
        timers = [t for t in left.pop("TIMER", ()) if promises_of_slot(t[3]) is None]
        if timers:
            left["TIMER"] = timers
        oracle.flow.check_rest()
        if left:
            raise Violation("S19", f"everything is complete, and there are {left}")
        lives = {life.id: life for life in (*oracle.past_lives, *oracle.lives.values())}
        for inv, target in self.clients.acked.items():
            if inv not in lives:
                raise Violation("S01", f"{inv} ({target}) was accepted, and never existed")
            if lives[inv].outcome is None:
                raise Violation("S12", f"{inv} ({target}) has no outcome")
        for child, parent in oracle.promised.items():
            if child not in lives:
                raise Violation("S17", f"{child}, called by {parent}, never existed")
        self._judge_counters(lives)

    def _judge_counters(self, lives: dict[str, Any]) -> None:
        oracle = self.world.oracle
        for key, count in oracle.increments.items():
            if key[0] != "Counter":
                continue
            stored = int(oracle.state[key]["n"])
            if stored != count:
                raise Violation("S08", f"{key} is {stored} after {count} increments")
            answers = [
                int(life.outcome.content)
                for life in lives.values()
                if (life.row.target.service, life.row.target.key) == key
                and life.row.target.handler == "add"
                and isinstance(life.outcome, Value)
            ]
            if len(set(answers)) != len(answers) or any(n > count for n in answers):
                raise Violation("S08", f"{key}: {count} increments answered {sorted(answers)}")

    async def _forget(self) -> None:
        """When retention has passed nothing is left but state."""
        self.world.jumped_ms += _RETENTION_MS
        # Two servers that fence each other notice it only now, and the third needs time to start.
        await self._pass(12.0)
        if "TIMER" in tables(self.world.store):
            # The clock has jumped; servers that wait for a timer look at it every minute.
            await self._pass(61.0)
        found = tables(self.world.store)
        left = {n: rows for n, rows in found.items() if n not in _LEFT}
        # State of an object stays; that of a workflow goes with its main invocation.
        states = {k: v for held in self.world.store._partitions for k, v in held.states.items()}
        self.world.oracle.shelf.check_rest(states)
        if state := [row for row in found.get("STATE", ()) if row[1] == "Flow"]:
            left["STATE"] = state
        if left:
            raise Violation("S28", f"retention has passed, and there are {left}")


def simulate(seed: int, faults: Faults | None = None, *, is_traced: bool = False) -> Report:
    """Run one seed.

    Raises:
        Violation: An invariant does not hold; says how to repeat.
    """
    return Simulation(seed, faults, is_traced=is_traced).run()
