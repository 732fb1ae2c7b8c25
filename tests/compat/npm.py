"""What tests run from npm: installed once, in a folder beside the tree."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
from pathlib import Path

_CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "holdfast-tests"
INSTALL_TIMEOUT_S = 300


class NotThere(Exception):
    """A package cannot be had on this machine; says why."""


def installed(name: str, manifest: str) -> Path:
    """Return the `node_modules` of a manifest, which are installed on first use.

    Args:
        name: Of the folder.
        manifest: The text of a `package.json`, with exact versions.

    Raises:
        NotThere: No npm, no network, or no such package.
    """
    digest = hashlib.sha256(manifest.encode()).hexdigest()[:12]
    home = _CACHE / f"{name}-{digest}"
    modules = home / "node_modules"
    # The last thing that npm writes.
    is_done = modules / ".package-lock.json"
    if not is_done.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise NotThere("npm is not installed")
        home.mkdir(parents=True, exist_ok=True)
        with (home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_done.exists():
                _install(npm, home, manifest)
    return modules


def binary(package: str, version: str, name: str) -> Path:
    """Return a program of a package that has one sub-package for each kind of machine.

    Raises:
        NotThere: It cannot be had, or not for this machine.
    """
    manifest = json.dumps({"private": True, "dependencies": {package: version}})
    modules = installed(f"{name}-{version}", manifest)
    system = platform.system().lower()
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    found = modules / f"{package}-{system}-{machine}" / "bin" / name
    if not found.exists():
        raise NotThere(f"{package} has no binary for {system}-{machine}")
    return found


def _install(npm: str, home: Path, manifest: str) -> None:
    (home / "package.json").write_text(manifest)
    # Install scripts only send statistics.
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"]
    done = subprocess.run(
        [npm, "install", *options],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise NotThere(f"npm cannot install {home.name}: {done.stderr.strip()[-300:]}")
