"""Who listens on a port of this machine, as far as `/proc` shows it."""

from __future__ import annotations

import os
from pathlib import Path

_LISTENING = "0A"


def listener_on(port: int) -> str | None:
    """Return `process PID (command)` of the process that listens on a TCP port.

    None when nobody does, on a system without `/proc`, or when it belongs to another user.
    """
    inodes = _listening_inodes(port)
    if not inodes:
        return None
    links = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        if _holds(process, links):
            return f"process {process.name} ({_command_of(process)})"
    return None


def _listening_inodes(port: int) -> set[str]:
    inodes: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    return inodes


def _holds(process: Path, links: set[str]) -> bool:
    try:
        return any(os.readlink(each) in links for each in (process / "fd").iterdir())
    except OSError:
        return False


def _command_of(process: Path) -> str:
    try:
        arguments = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return "unknown"
    command = " ".join(argument.decode(errors="replace") for argument in arguments).strip()
    return command if len(command) <= 80 else command[:79] + "…"
