"""One small agent, always the same, to crash it everywhere."""

from __future__ import annotations

from random import Random

import msgspec

from holdfast.domain.target import Target
from holdfast.server.handle import Request

from .faults import Faults
from .program import Op
from .run import Report, Simulation
from .workload import Clients
from .world import SimHost, World

AGENT: list[Op] = [
    ["step", "plan", 0.01],
    ["call", "ask", "Agent/run", None, [["step", "inner", 0.0]]],
    ["sleep", "wait", 0.2],
    ["awakeable", "approval", [0.05, "approval", True], 0.0],
    ["gather", "tools", [["step", "tool1", 0.02], ["flaky", "tool2", 1, 0.0, True]]],
    ["call", "count", "Counter/add", "a", 0.0],
    ["step", "answer", 0.0],
]
"""Five steps, two calls, a timer and a promise."""

TARGET = Target("Box", "hold", "b")
SEED = 1_000_000


class OneClient(Clients):
    """Sends one request, until it has the answer."""

    def begin(self) -> None:
        self.spawn(self._only())

    async def _only(self) -> None:
        def request(host: SimHost) -> Request:
            handler = host.resolve(TARGET.service, TARGET.handler)
            return Request(TARGET, handler, msgspec.json.encode(AGENT), (), "once")

        finished = await self.ask(lambda host: self.call(host, request))
        self.on_accepted(TARGET, finished.invocation_id, "once")
        self.on_finished(finished)
        failure = getattr(finished.outcome, "message", None)
        if failure is not None:
            self.world.oracle.fail("S01", f"the agent failed: {failure}")


def play(faults: Faults, seed: int = SEED) -> Report:
    """Run the agent with these faults.

    Raises:
        Violation: An invariant does not hold.
    """
    return Simulation(seed, faults, make_clients=_one_client).run()


def _one_client(world: World, span_s: float) -> Clients:
    return OneClient(world, span_s)


def quiet(seed: int = SEED) -> Faults:
    """Return faults that are none, with the latencies of a normal day."""
    timeouts = (0, None)
    return Faults(inactivity_timeout_ms=timeouts[Random(seed).randrange(2)])
