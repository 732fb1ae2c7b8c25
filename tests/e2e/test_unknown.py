"""Workers that are killed inside of a step: what became of it, by each policy, on both carriers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .harness import Command, Holdfast, Ledger, environment, free_port, wait_until

APP = Path(__file__).parent / "apps" / "till.py"
POLICIES = ("retry", "fail", "ask", "verify")


class Till:
    """A server, and handlers that can be killed and started again."""

    def __init__(self, folder: Path, ledger: Ledger, carrier: str) -> None:
        self.go = folder / "go"
        self.holdfast = Holdfast(folder, f"{APP}:app", {**ledger.env, "GO": str(self.go)})
        self._carrier = carrier
        self._port = free_port()

    def start_handlers(self) -> Command:
        if self._carrier == "worker":
            command = self.holdfast.worker()
            command.until("Serving")
            return command
        app = self.holdfast.app
        command = self.holdfast.run("serve", "serve", app, "--http=2", f"--port={self._port}")
        command.until("Serving")
        return command

    def register(self) -> None:
        if self._carrier == "http":
            url = f"http://127.0.0.1:{self._port}"
            subprocess.run(
                [sys.executable, "-m", "holdfast.cli", "deployments", "register", url, "--yes"],
                env=environment({"HOLDFAST_ADMIN": f"http://{self.holdfast.admin}"}),
                timeout=60,
                check=True,
            )


@pytest.fixture(params=["worker", "http"])
def till(request: pytest.FixtureRequest, tmp_path: Path, ledger: Ledger) -> Iterator[Till]:
    till = Till(tmp_path, ledger, request.param)
    with till.holdfast as holdfast:
        holdfast.server().until("Ready")
        yield till


def question(holdfast: Holdfast, invocation_id: str) -> dict[str, Any]:
    """Wait until a person is asked, and return what."""

    def find() -> dict[str, Any] | None:
        for entry in holdfast.journal(invocation_id):
            payload = entry.get("payload")
            value = payload.get("value") if isinstance(payload, dict) else None
            if isinstance(value, dict) and "awakeable_id" in value:
                return value
        return None

    return wait_until(find, "a question in the journal")


def test_a_worker_is_killed_inside_of_a_step(till: Till, ledger: Ledger) -> None:
    holdfast = till.holdfast
    handlers = till.start_handlers()
    till.register()
    ids = {policy: holdfast.send("Till/pay", policy) for policy in POLICIES}
    wait_until(lambda: len(ledger.lines()) == 4 or None, "all bodies to run")
    keys = {line.split()[1]: line.split()[2] for line in ledger.lines()}
    assert len(set(keys.values())) == 4

    handlers.kill()
    till.go.touch()
    till.start_handlers()

    assert holdfast.attach(ids["retry"]).ok() == "charged"
    assert holdfast.attach(ids["fail"]).ok() == "HF0580"
    assert holdfast.attach(ids["verify"]).ok() == "found"
    asked = question(holdfast, ids["ask"])
    assert asked["idempotency_key"] == keys["ask"]
    assert "'charge'" in asked["question"]
    holdfast.resolve(asked["awakeable_id"], {"happened": True, "value": "by hand"})
    assert holdfast.attach(ids["ask"]).ok() == "by hand"
    again = [f"charge retry {keys['retry']}", f"verify verify {keys['verify']}"]
    assert sorted(ledger.lines()[4:]) == again


def test_the_server_is_killed_too_and_a_person_lets_it_run_again(
    till: Till, ledger: Ledger
) -> None:
    holdfast = till.holdfast
    handlers = till.start_handlers()
    till.register()
    invocation_id = holdfast.send("Till/pay", "ask")
    wait_until(lambda: ledger.lines() or None, "the body to run")
    holdfast.current("server").kill()
    handlers.kill()
    till.go.touch()
    holdfast.server().until("Ready")
    till.start_handlers()
    asked = question(holdfast, invocation_id)
    holdfast.current("server").kill()
    holdfast.server().until("Ready")
    holdfast.resolve(asked["awakeable_id"], {"happened": False})
    assert holdfast.attach(invocation_id).ok() == "charged"
    assert len(ledger.lines()) == 2
    assert len(set(ledger.lines())) == 1
    assert json.dumps(holdfast.journal(invocation_id)).count("awakeable_id") == 1
