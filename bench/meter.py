"""What a process uses: CPU time and memory, read from ``/proc`` (Linux only).

A *watch* names a role ("server", "worker", ...) and the processes that play it. It is written
``role:scope:pid`` so that it can be handed to another process on its command line; scope is
``self`` (that process), ``tree`` (it and all its descendants) or ``below`` (descendants only).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")
SCOPES = ("self", "tree", "below")


@dataclass(frozen=True)
class Watch:
    """One role and the processes that play it."""

    role: str
    scope: str
    pid: int

    def __str__(self) -> str:
        return f"{self.role}:{self.scope}:{self.pid}"

    @classmethod
    def parse(cls, text: str) -> Watch:
        role, scope, pid = text.split(":")
        if scope not in SCOPES:
            raise ValueError(f"unknown scope {scope!r} in watch {text!r}")
        return cls(role, scope, int(pid))

    def pids(self) -> list[int]:
        """The processes in scope now."""
        if self.scope == "self":
            return [self.pid]
        below = descendants(self.pid)
        return below if self.scope == "below" else [self.pid, *below]


def _stat(pid: int) -> list[str] | None:
    """Fields of ``/proc/PID/stat`` after the command name; index 0 is the state."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def descendants(root: int) -> list[int]:
    """Children of ``root``, their children, and so on."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    todo = [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def start_time(pid: int) -> str | None:
    """When the process started (in ticks), which tells it from a later one with the same pid."""
    fields = _stat(pid)
    return None if fields is None or fields[0] == "Z" else fields[19]


def cpu_seconds(watch: Watch) -> float:
    """User + system CPU time spent so far, with that of children already waited for."""
    total = 0
    for pid in watch.pids():
        if (fields := _stat(pid)) is not None:
            # utime, stime; and for a whole tree cutime, cstime (backends that have exited)
            total += sum(int(f) for f in fields[11 : 15 if watch.scope == "tree" else 13])
    return total / _TICKS


def machine_busy_seconds() -> float:
    """CPU time that all of the machine has spent on anything (time stolen from it included)."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / _TICKS


def memory(watch: Watch) -> dict[str, float]:
    """Memory in MiB over the processes of the role.

    ``rss`` adds up resident set sizes, so memory that processes share is counted once for each;
    ``pss`` divides shared pages among their users, and is the fair number for PostgreSQL.
    """
    rss = pss = 0
    for pid in watch.pids():
        try:
            lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            key, _, rest = line.partition(":")
            if key == "Rss":
                rss += int(rest.split()[0])
            elif key == "Pss":
                pss += int(rest.split()[0])
    return {"rss": round(rss / 1024, 1), "pss": round(pss / 1024, 1)}
