"""`holdfast serve`: handlers as an HTTP endpoint."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from cli_harness import AGENT, Running, free_ports, holdfast
from click.testing import CliRunner

from holdfast.cli.serve import serve
from holdfast.domain.errors import HoldfastError

KEY = "publickeyv1_" + "1" * 32


@pytest.fixture
def agent(tmp_path: Path) -> str:
    file = tmp_path / "agent.py"
    file.write_text(AGENT)
    return f"{file}:app"


def discovered(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/discover", timeout=10) as response:
        found: dict[str, Any] = json.loads(response.read())
    return found


@pytest.mark.parametrize("http_version", ["1.1", "2"])
def test_it_serves_until_sigterm(http_version: str, agent: str, tmp_path: Path) -> None:
    with Running("serve", agent, "--port", "0", "--http", http_version, cwd=tmp_path) as served:
        url = served.until(r"Serving Greeter at (http://127.0.0.1:\d+)").group(1)
        flag = " --use-http1.1" if http_version == "1.1" else ""
        served.until(f"holdfast deployments register {url}{flag}$")
        assert discovered(url)["services"][0]["name"] == "Greeter"
        served.send_signal(signal.SIGTERM)
        assert served.wait() == 0


def test_commands_that_are_shown_work(agent: str, tmp_path: Path) -> None:
    ingress, admin = free_ports(2)
    options = ["--ingress", f"127.0.0.1:{ingress}", "--admin", f"127.0.0.1:{admin}"]
    with (
        Running("server", "--store", "memory:", *options, cwd=tmp_path) as server,
        Running("serve", agent, "--port", "0", cwd=tmp_path) as served,
    ):
        server.until("Ready")
        register = served.until("Register it: holdfast (.*)").group(1).split()
        done = holdfast(*register, "--admin", f"127.0.0.1:{admin}")
        assert done.returncode == 0, done.stderr
        done = holdfast("call", "Greeter/greet", '"Ada"', "--ingress", f"127.0.0.1:{ingress}")
        assert done.stdout.strip() == '"Hello Ada"', done.stderr


def refused(*arguments: str) -> HoldfastError:
    result = CliRunner().invoke(serve, arguments)
    assert isinstance(result.exception, HoldfastError), result
    return result.exception


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("HOLDFAST_"):
            monkeypatch.delenv(name)


@pytest.mark.usefixtures("no_settings")
class TestRefusals:
    def test_beyond_this_machine_without_a_key(self, agent: str) -> None:
        assert refused(agent, "--host", "0.0.0.0").code == "HF1386"

    def test_a_key_that_is_none(self, agent: str) -> None:
        assert refused(agent, "--identity-key", "secret").code == "HF1372"

    def test_a_port_that_is_taken(self, agent: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            error = refused(agent, "--port", str(port), "--identity-key", KEY)
        assert error.code == "HF1201"
        assert str(port) in error.message

    def test_http_2_without_hypercorn(self, agent: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "hypercorn", None)
        error = refused(agent, "--http", "2")
        assert error.code == "HF1387"
        assert "pip install 'holdfast[http2]'" in error.hint
