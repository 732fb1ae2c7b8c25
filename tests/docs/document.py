"""Runs what documents show: their files, their Python and their commands, in one shell session.

A comment above a block says what it is:

    <!-- test: file NAME -->     a file; written before anything runs
    <!-- test: run -->           commands, one after another; one that fails, fails the test
    <!-- test: background -->    a command that stays; the next block waits until services are there
    <!-- test: python -->        a program, run to its end
    <!-- test: shows -->         text; every line of it must be somewhere in the output so far
    <!-- test: no -->            not run

Ports and paths of the document are replaced by free ones. A scripted model stands in for OpenAI.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from holdfast.testing.scripted_model import ModelRequest, ScriptedModel, ToolCall, Turn

from ..cli.cli_harness import free_ports

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120

_BLOCK = re.compile(
    r"(?:<!-- test: (?P<deed>\w+)(?: (?P<name>\S+))? -->\n+)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block of a document."""

    deed: str | None
    name: str
    language: str
    text: str


def blocks(path: Path) -> list[Block]:
    """Return the blocks of a document, in order."""
    return [
        Block(match["deed"], match["name"] or "", match["language"], match["text"])
        for match in _BLOCK.finditer(path.read_text())
    ]


def model_turn(request: ModelRequest) -> Turn:
    """Say what the model of the documents says: one tool call, then its answer."""
    if request.tools and request.turn_index == 0:
        return Turn(tool_calls=(ToolCall(request.tools[0], {"city": "Oslo"}),))
    return Turn(text=" ".join(request.tool_outputs) or f"You said: {request.prompt}")


def run_document(path: Path, folder: Path) -> str:
    """Run a document in an empty folder; return all output. Raises when something fails."""
    ingress, admin, other, endpoint = free_ports(4)
    script = ["set -eu", "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT"]
    shown: list[str] = []
    for number, block in enumerate(blocks(path)):
        text = block.text.replace("127.0.0.1:8080", f"127.0.0.1:{ingress}")
        text = text.replace("127.0.0.1:9070", f"127.0.0.1:{admin}").replace("9900", str(other))
        text = text.replace("9080", str(endpoint))
        match block.deed:
            case "file":
                (folder / block.name).write_text(text)
            case "run":
                script.append(text)
            case "background":
                script += [f"{text.strip()} &", _wait_for(text, ingress)]
            case "python":
                name = f"block_{number}.py"
                (folder / name).write_text(text)
                script.append(f"{shlex.quote(sys.executable)} {name}")
            case "shows":
                shown += [line.strip() for line in text.splitlines() if line.strip()]
            case "no":
                pass
            case _:
                assert block.language not in ("python", "sh"), (
                    f"{path.name}: say above the block what is to be done with it:\n{block.text}"
                )
    output = _run("\n".join(script), folder, ingress, admin)
    for line in shown:
        assert line in output, f"{path.name} shows {line!r}, which was not printed:\n{output}"
    return output


def _wait_for(command: str, ingress: int) -> str:
    """Return a command that waits until what was started is ready."""
    if not command.startswith("holdfast"):
        return "sleep 1"
    if served := re.search(r"holdfast serve .*--port (\d+)", command):
        url = f"http://127.0.0.1:{served[1]}/health"
        return f"for _ in $(seq 300); do curl -sf {url} >/dev/null && break; sleep 0.1; done"
    found = "services" if command.startswith("holdfast server") else 'services":\\["'
    return (
        f"for _ in $(seq 300); do curl -sf http://127.0.0.1:{ingress}/restate/health"
        f" | grep -q '{found}' && break; sleep 0.1; done"
    )


def _run(script: str, folder: Path, ingress: int, admin: int) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    with ScriptedModel({"gpt-4.1": model_turn}) as model:
        environment = {
            **kept,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "NO_COLOR": "1",
            "HOLDFAST_INGRESS": f"127.0.0.1:{ingress}",
            "HOLDFAST_ADMIN": f"127.0.0.1:{admin}",
            "OPENAI_API_KEY": "any",
            "OPENAI_BASE_URL": model.url,
            "OPENAI_AGENTS_DISABLE_TRACING": "1",
        }
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_S,
            check=False,
        )
    output = done.stdout.decode()
    assert done.returncode == 0, f"a block failed with {done.returncode}:\n{output}"
    return output
