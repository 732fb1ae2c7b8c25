"""Runs the command line as people do: in processes of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

PATIENCE_S = 100.0

AGENT = """
import os
import holdfast as hf

greeter = hf.Service("Greeter")

@greeter.handler
async def greet(ctx: hf.Context, name: str) -> str:
    return f"Hello {name}"

@greeter.handler
async def fail(ctx: hf.Context, name: str) -> str:
    raise hf.TerminalError("no greeting for " + name, code=418)

def note(awakeable_id: str) -> dict[str, object]:
    return {"pid": os.getpid(), "awakeable_id": awakeable_id}

@greeter.handler
async def twice(ctx: hf.Context, name: str) -> list[int]:
    signal = ctx.awakeable(type=str)
    first = await ctx.run("first", note, signal.id)
    await signal
    return [first["pid"], await ctx.run("second", os.getpid)]

app = hf.App(greeter)
"""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment without settings of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    return {**kept, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", **(extra or {})}


def holdfast(
    *arguments: str,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "holdfast.cli", *arguments],
        cwd=cwd,
        env=environment(env),
        input=stdin,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def free_ports(count: int) -> list[int]:
    """Return ports that are free now; held together, so they differ."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


class Running:
    """A command that keeps running; its output is read as it comes."""

    def __init__(
        self, *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "holdfast.cli", *arguments],
            cwd=cwd,
            env=environment(env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._is_over = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def text(self) -> str:
        with self._changed:
            return "\n".join(self._lines)

    def until(self, pattern: str, *, count: int = 1) -> re.Match[str]:
        """Wait for the n-th match of a pattern in the output, and return it."""

        def found() -> list[re.Match[str]]:
            return list(re.finditer(pattern, "\n".join(self._lines)))

        with self._changed:
            self._changed.wait_for(lambda: len(found()) >= count or self._is_over, PATIENCE_S)
            matches = found()
            assert len(matches) >= count, f"no {pattern!r} in:\n" + "\n".join(self._lines)
            return matches[count - 1]

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        code = self._process.wait(PATIENCE_S)
        # A grandchild that still runs may hold the other end; it is no reason to wait.
        self._reader.join(1.0)
        if self._process.stdout is not None and not self._reader.is_alive():
            self._process.stdout.close()
        return code

    def children(self) -> Sequence[int]:
        """Return the process ids of the children."""
        task = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(pid) for pid in task.read_text().split()]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
