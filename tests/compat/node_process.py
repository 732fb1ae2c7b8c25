"""Services of Restate's TypeScript SDK, in a Node process of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.compat.npm import NotThere, installed
from tests.e2e.harness import Ledger, free_port

SOURCES = Path(__file__).with_name("node")
NODE_VERSION_MIN = 20


def node_modules() -> Path:
    """Return the packages that the services need.

    Raises:
        NotThere: They cannot be had, or Node is missing or too old.
    """
    node = shutil.which("node")
    if node is None:
        raise NotThere("node is not installed")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").partition(".")[0]) < NODE_VERSION_MIN:
        raise NotThere(f"node {version.strip()} is too old, {NODE_VERSION_MIN} is needed")
    return installed("node", (SOURCES / "package.json").read_text())


class NodeProcess:
    """The services of a module of `node/`, on a port of loopback. Use as a context manager.

    Args:
        module: Name of the file.
        folder: For a copy of the sources, the log and the ledger.
        env: See `node/listen.mjs`.
    """

    def __init__(self, module: str, folder: Path, env: Mapping[str, str] | None = None) -> None:
        modules = node_modules()
        self._home = folder / "node"
        shutil.copytree(SOURCES, self._home)
        (self._home / "node_modules").symlink_to(modules)
        self._log = folder / "node.log"
        self.ledger = Ledger(folder / "ledger")
        port = free_port()
        self.uri = f"http://127.0.0.1:{port}"
        self._argv = ["node", "--import", "./polyfill.mjs", "listen.mjs", f"./{module}"]
        self._environment = {
            **{name: text for name, text in os.environ.items() if not name.startswith("RESTATE_")},
            "RESTATE_LOGGING": "ERROR",
            "LOG": str(self.ledger.path),
            "PORT": str(port),
            **(env or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> NodeProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with self._log.open("ab") as log:
            process = self._process = subprocess.Popen(
                self._argv,
                cwd=self._home,
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert process.stdout is not None
        with process.stdout:
            # The rest of its output is lost.
            assert process.stdout.readline(), self._log.read_text()

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
