"""SIGKILL of workers and servers: every call that was recorded has its prompt, once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from .harness import APPS, Holdfast, Ledger, ask

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs POSIX signals")

TURNS = 12


def messages(turn: int) -> list[Any]:
    said: list[Any] = [{"role": "system", "content": "be brief"}]
    for n in range(turn + 1):
        said.append({"role": "user", "content": f"question {n}"})
        if n < turn:
            said.append({"role": "assistant", "content": f"answer {n}"})
    return said


def test_prompts_survive_kills(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    with Holdfast(tmp_path, f"{APPS / 'chatter.py'}:app", ledger.env) as holdfast:
        holdfast.up()
        inv = holdfast.send("Chatter/talk", TURNS)
        for count, victim in ((2, "worker"), (5, "server"), (8, "worker")):
            holdfast.until_journal(inv, "Notification: Run", count)
            holdfast.current(victim).kill()
            if victim == "server":
                holdfast.server().until("Ready")
            else:
                holdfast.worker()
        assert holdfast.attach(inv).ok() == "done"
        path = f"/holdfast/v1/invocations/{inv}/model-calls"
        found = ask("GET", holdfast.admin, path).ok()
        calls = found["model_calls"]
        assert [call["message_count"] for call in calls] == [2 * n + 2 for n in range(TURNS)]
        assert found["totals"]["count"] == TURNS
        assert found["totals"]["usage"]["input"] == sum(100 * (n + 1) for n in range(TURNS))
        for turn, call in enumerate(calls):
            shown = ask("GET", holdfast.admin, f"{path}/{call['completion_id']}").ok()
            assert shown["messages"] == messages(turn)
            assert shown["answer"] == {"role": "assistant", "content": f"answer {turn}"}
        # What was done again is what was not recorded: at most once for each kill.
        assert TURNS <= len(ledger.lines()) <= TURNS + 3
