"""A server with runs, and a real browser that looks at it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

PATIENCE_S = 60.0
_ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Site:
    """`holdfast dev` with the handlers of `app.py`. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.ingress = f"http://127.0.0.1:{free_port()}"
        self.admin = f"http://127.0.0.1:{free_port()}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Site:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        kept = {name: text for name, text in os.environ.items() if not name.startswith("HOLDFAST_")}
        app = Path(__file__).with_name("app.py")
        arguments = [
            *(sys.executable, "-m", "holdfast.cli", "dev", f"{app}:app", "--no-reload"),
            *("--ingress", self.ingress.removeprefix("http://")),
            *("--admin", self.admin.removeprefix("http://")),
        ]
        log = (self._folder / "log").open("ab")
        self._process = subprocess.Popen(
            arguments, cwd=self._folder, env=kept, stdout=log, stderr=log, start_new_session=True
        )
        log.close()
        until = time.monotonic() + PATIENCE_S
        while "Agent" not in str(self.read("/services", default="")):
            assert time.monotonic() < until, (self._folder / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(20)
            self._process = None

    def read(self, path: str, *, default: Any = None) -> Any:
        try:
            with urllib.request.urlopen(f"{self.admin}{path}", timeout=5) as response:
                return json.load(response)
        except (urllib.error.URLError, OSError):
            return default

    def send(self, path: str, body: object = None) -> str:
        """Start an invocation and return its id."""
        content = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"content-type": "application/json"}
        request = urllib.request.Request(
            f"{self.ingress}/{path}/send", data=content, headers=headers, method="POST"
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            return str(json.load(response)["invocationId"])

    def wait_for(self, invocation_id: str, *states: str) -> None:
        until = time.monotonic() + PATIENCE_S
        while True:
            found = self.read(f"/holdfast/v1/invocations/{invocation_id}/operations", default={})
            if found.get("invocation", {}).get("state") in states:
                return
            assert time.monotonic() < until, found
            time.sleep(0.05)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("ui")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    # Not for the session: while it is there a loop runs, and asynchronous tests could not.
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("Chromium is not installed: apt-get install -y chromium")
    with playwright.sync_playwright() as running:
        found = running.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield found
        found.close()


@pytest.fixture
def page(browser: Any, site: Site) -> Iterator[Any]:
    """A page that fails the test when its script fails, or asks another host for something."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    found = context.new_page()
    problems: list[str] = []
    found.on("pageerror", lambda error: problems.append(f"error: {error}"))
    found.on("console", lambda m: problems.append(m.text) if _is_problem(m) else None)
    found.on("request", lambda r: None if _is_ours(r.url, site) else problems.append(r.url))
    yield found
    context.close()
    assert problems == []


def _is_problem(message: Any) -> bool:
    # A refused request is what error views are about; the policy of the page is not.
    return message.type == "error" and "Failed to load resource" not in message.text


def _is_ours(url: str, site: Site) -> bool:
    return url.startswith((site.admin, site.admin.replace("http", "ws"), "data:"))
