"""Installs the peers under ``bench/.cache`` (git-ignored) on first use, with npm and pip."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from bench.procs import CACHE, PEER_PYTHON, ROOT, BenchError, progress

RESTATE_SERVER = "@restatedev/restate-server"
RESTATE_SERVER_VERSION = "1.7.12"
_REQUIREMENTS = ROOT / "bench" / "requirements.txt"


def _run(argv: list[str | Path]) -> None:
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchError(f"{argv[0]} failed:\n{(done.stderr or done.stdout)[-2000:]}")


def ensure_peer_venv() -> Path:
    """The Python of a virtual environment with the peers' SDKs; made anew when pins change."""
    stamp = CACHE / "venv" / "requirements.installed"
    wanted = _REQUIREMENTS.read_text()
    if PEER_PYTHON.exists() and stamp.exists() and stamp.read_text() == wanted:
        return PEER_PYTHON
    progress("installing the peers' Python packages (once)")
    CACHE.mkdir(exist_ok=True)
    if not PEER_PYTHON.exists():
        _run([sys.executable, "-m", "venv", CACHE / "venv"])
    _run([PEER_PYTHON, "-m", "pip", "install", "--quiet", "-r", _REQUIREMENTS])
    stamp.write_text(wanted)
    return PEER_PYTHON


def ensure_restate_server() -> Path:
    """The native binary from the npm package for this platform (no node process around it)."""
    system = platform.system().lower()
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}.get(
        platform.machine().lower(), platform.machine()
    )
    package = f"{RESTATE_SERVER}-{system}-{machine}"
    home = CACHE / "restate"
    binary = home / "node_modules" / package / "bin" / "restate-server"
    manifest = home / "node_modules" / package / "package.json"
    if binary.exists() and json.loads(manifest.read_text())["version"] == RESTATE_SERVER_VERSION:
        return binary
    npm = shutil.which("npm")
    if npm is None:
        raise BenchError("npm is needed to install restate-server")
    progress("installing restate-server with npm (once)")
    home.mkdir(parents=True, exist_ok=True)
    spec = f"{RESTATE_SERVER}@{RESTATE_SERVER_VERSION}"
    # install scripts only send usage statistics
    _run([npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", home, spec])
    if not binary.exists():
        raise BenchError(f"{spec} brought no binary for {system}-{machine}")
    return binary


def peer_version(distribution: str) -> str:
    """Version of a package in the peers' virtual environment."""
    code = f"import importlib.metadata as m; print(m.version({distribution!r}))"
    done = subprocess.run([str(PEER_PYTHON), "-c", code], capture_output=True, text=True)
    return done.stdout.strip() or "?"


def project_version(distribution: str) -> str:
    """Version of a package in the project's own environment."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
