"""An agent of the OpenAI Agents SDK: tools in parallel, and a crash in the middle of them."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from holdfast.testing.scripted_model import ModelRequest, ScriptedModel, ToolCall, Turn

from .harness import APPS, Holdfast, Ledger

NAME = "ten-tools"
TOOLS = 10


def summary(request: ModelRequest) -> str:
    return ", ".join(sorted(request.tool_outputs))


ANSWER = ", ".join(sorted(f"done {number}" for number in range(TOOLS)))


@contextlib.contextmanager
def agent_with(
    seconds: list[float], folder: Path, ledger: Ledger
) -> Iterator[tuple[Holdfast, ScriptedModel]]:
    """Serve an agent whose model calls the tool ten times at once, then sums up."""
    calls = [ToolCall("work", {"number": n, "seconds": s}) for n, s in enumerate(seconds)]
    with ScriptedModel({NAME: [Turn(tool_calls=tuple(calls)), summary]}) as model:
        env = {**ledger.env, "MODEL_URL": model.url}
        with Holdfast(folder, f"{APPS / 'tools.py'}:app", env) as holdfast:
            holdfast.up()
            yield holdfast, model


def test_ten_tools_of_a_second_take_a_second(tmp_path: Path, ledger: Ledger) -> None:
    with agent_with([1.0] * TOOLS, tmp_path, ledger) as (holdfast, model):
        assert holdfast.call("Tools/run", "go") == ANSWER
        assert len(model.calls(NAME)) == 2
    lines = [line.split() for line in ledger.lines()]
    assert Counter(words[0] for words in lines) == {"begin": TOOLS, "end": TOOLS}
    begun = min(float(words[2]) for words in lines if words[0] == "begin")
    ended = max(float(words[2]) for words in lines if words[0] == "end")
    print(f"tools took {ended - begun:.3f} s")
    assert ended - begun <= 1.5


def test_a_crash_among_tools_repeats_only_those_that_had_not_finished(
    tmp_path: Path, ledger: Ledger
) -> None:
    seconds = [0.0] * 5 + [2.0] * 5
    with agent_with(seconds, tmp_path, ledger) as (holdfast, model):
        invocation_id = holdfast.send("Tools/run", "go")
        # The model's answer, and the five tools that are quick.
        holdfast.until_journal(invocation_id, "Notification: Run", 1 + 5)
        holdfast.current("worker").kill()
        killed_at = len(ledger.lines())
        assert len(model.calls(NAME)) == 1
        holdfast.worker()
        assert holdfast.attach(invocation_id).ok() == ANSWER
        assert len(model.calls(NAME)) == 2
        steps = [e for e in holdfast.journal(invocation_id) if e["kind"] == "Command: Run"]
        assert len(steps) == 2 + TOOLS
    lines = ledger.lines()
    begun_again = sorted(int(line.split()[1]) for line in lines[killed_at:] if line[0] == "b")
    assert begun_again == [5, 6, 7, 8, 9]
    ends = Counter(int(line.split()[1]) for line in lines if line.startswith("end"))
    assert ends == dict.fromkeys(range(TOOLS), 1)
