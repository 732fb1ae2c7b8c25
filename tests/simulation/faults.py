"""What goes wrong in a run: a different mixture for every seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from random import Random


class CrashPoint(Enum):
    """Where the server dies."""

    BEFORE_COMMIT = "before the commit is durable"
    AFTER_COMMIT = "after the commit is durable, before any action"
    DISPATCH = "in the middle of dispatching actions"


@dataclass
class Faults:
    """The mixture. Probabilities are per event; all off by default."""

    crash_at_commit: dict[int, CrashPoint] = field(default_factory=dict)
    """By number of the commit, from 1."""
    crash_at_dispatch: set[int] = field(default_factory=set)
    """By number of the action, from 1: it is not taken, nor any after it."""
    server_crashes_s: list[float] = field(default_factory=list)
    worker_crashes_s: list[float] = field(default_factory=list)
    takeovers_s: list[float] = field(default_factory=list)
    """A second server starts while the first goes on for a while."""
    clock_jumps_s: list[float] = field(default_factory=list)
    failing_commits: dict[int, bool] = field(default_factory=dict)
    """The commit reports an error; the value says whether it was applied."""
    server_skew_ms: int = 0
    worker_skew_ms: int = 0
    commit_latency_s: float = 0.002
    read_latency_s: float = 0.0005
    link_latency_s: float = 0.002
    link_cut: float = 0.0
    message_lost: float = 0.0
    message_repeated: float = 0.0
    message_delayed: float = 0.0
    answer_lost: float = 0.0
    timer_repeated: float = 0.0
    loss_repeated: float = 0.0
    stale_message: float = 0.0
    client_impatience: float = 0.0
    inactivity_timeout_ms: int | None = None
    server_delay_s: float = 0.3
    """Longest time until a new server starts."""

    @property
    def is_calm(self) -> bool:
        """Whether no process dies."""
        return not (
            self.crash_at_commit
            or self.crash_at_dispatch
            or self.server_crashes_s
            or self.takeovers_s
            or self.worker_crashes_s
            or self.failing_commits
        )


def _some(random: Random, share: float, most: float) -> float:
    return random.random() * most if random.random() < share else 0.0


def draw(random: Random, span_s: float) -> Faults:
    """Choose the faults of one run, in the first `span_s` seconds."""

    def times(share: float, most: int) -> list[float]:
        if random.random() >= share:
            return []
        return sorted(random.random() * span_s for _ in range(random.randint(1, most)))

    faults = Faults(
        server_crashes_s=times(0.5, 4),
        worker_crashes_s=times(0.5, 3),
        takeovers_s=times(0.35, 2),
        clock_jumps_s=times(0.3, 6),
        server_skew_ms=random.choice((0, 0, 200, 1500)),
        worker_skew_ms=random.choice((0, 0, 200, 1500)),
        commit_latency_s=random.choice((0.0, 0.001, 0.005, 0.05)),
        read_latency_s=random.choice((0.0, 0.0, 0.001, 0.01)),
        link_latency_s=random.choice((0.0, 0.001, 0.01, 0.05)),
        link_cut=_some(random, 0.4, 0.03),
        message_lost=_some(random, 0.5, 0.2),
        message_repeated=_some(random, 0.5, 0.2),
        message_delayed=_some(random, 0.5, 0.5),
        answer_lost=_some(random, 0.5, 0.2),
        timer_repeated=_some(random, 0.5, 0.5),
        loss_repeated=_some(random, 0.5, 0.5),
        stale_message=_some(random, 0.5, 0.5),
        client_impatience=_some(random, 0.5, 0.3),
        inactivity_timeout_ms=random.choice((0, 0, 50, 500, 3000, None)),
        server_delay_s=random.choice((0.0, 0.3, 2.0)),
    )
    if random.random() < 0.6:
        points = (CrashPoint.BEFORE_COMMIT, CrashPoint.AFTER_COMMIT)
        for _ in range(random.randint(1, 3)):
            faults.crash_at_commit[random.randint(1, 150)] = random.choice(points)
    if random.random() < 0.6:
        faults.crash_at_dispatch = {random.randint(1, 250) for _ in range(random.randint(1, 3))}
    if random.random() < 0.2:
        faults.failing_commits[random.randint(1, 100)] = random.random() < 0.5
    return faults
