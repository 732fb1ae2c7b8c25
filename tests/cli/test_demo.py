"""`holdfast demo`: what it shows must be true."""

from __future__ import annotations

import http.client
import json
import signal
import socket
from pathlib import Path

import pytest
from cli_harness import PATIENCE_S, Running, free_ports, holdfast

pytest.importorskip("agents")


def test_the_show_and_what_remains_of_it(tmp_path: Path) -> None:
    ingress, admin = free_ports(2)
    env = {
        "HOLDFAST_INGRESS": f"127.0.0.1:{ingress}",
        "HOLDFAST_ADMIN": f"127.0.0.1:{admin}",
        # A key that lies around must not be used.
        "OPENAI_API_KEY": "sk-not-a-key",
    }
    done = holdfast("demo", "--exit", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    shown = done.stdout
    assert f"http://127.0.0.1:{ingress}" in shown
    assert f"http://127.0.0.1:{admin}" in shown
    assert "was killed with SIGKILL" in shown
    assert 'Answer: "San Francisco: ' in shown
    assert "asked 3 times for 3 recorded answers: nothing was paid for twice." in shown
    journal = [line.split() for line in shown.splitlines() if line.strip()[:1].isdigit()]
    attempts = [line[1] for line in journal if len(line) > 2 and line[1] in ("1", "2")]
    assert attempts[:3] == ["1", "1", "1"]
    assert attempts[-1] == "2"
    with Running("demo", cwd=tmp_path, env=env) as again:
        again.until("It waits since an earlier start of this demo")
        claim = again.until(r"holdfast attach (inv_1\w+)").group(1)
        assert claim in shown
        path = again.until(r"(/restate/awakeables/sign_1\S+/resolve)").group(1)
        again.until("Ctrl-C stops")
        connection = http.client.HTTPConnection(f"127.0.0.1:{ingress}", timeout=PATIENCE_S)
        body = json.dumps({"approved": True})
        connection.request("POST", path, body, {"content-type": "application/json"})
        assert connection.getresponse().status == 202
        connection.close()
        answer = holdfast("attach", claim, env=env)
        assert "900.00 euros are on their way" in answer.stdout
        again.send_signal(signal.SIGINT)
        assert again.wait() == 0


def test_a_taken_port_moves_the_demo_to_the_next_pair(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        (admin,) = free_ports(1)
        options = ["--ingress", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
        with Running("demo", *options, "--store", "memory:", cwd=tmp_path) as demo:
            demo.until(f"127.0.0.1:{port} is taken by process")
            found = demo.until(r"Ingress +http://127\.0\.0\.1:(\d+)").group(1)
            assert int(found) > port
            # Also in the middle of the show, Ctrl-C is an order and no accident.
            demo.until("1. A crash")
            demo.send_signal(signal.SIGINT)
            assert demo.wait() == 0
