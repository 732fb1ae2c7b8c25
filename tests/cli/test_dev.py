"""`holdfast dev` and `holdfast worker`: crashes, reloads, drains, and the death of the parent."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_harness import AGENT, PATIENCE_S, Running, free_ports, holdfast

from holdfast.cli.child import how_it_ended

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


class Dev(Running):
    """A running `holdfast dev` with its addresses."""

    def __init__(self, folder: Path, *options: str) -> None:
        ingress, admin = free_ports(2)
        self.env = {
            "HOLDFAST_INGRESS": f"127.0.0.1:{ingress}",
            "HOLDFAST_ADMIN": f"127.0.0.1:{admin}",
        }
        super().__init__("dev", "agent.py:app", *options, cwd=folder, env=self.env)

    def ready(self) -> int:
        """Wait until it serves and return the process id of the worker."""
        self.until("ready in")
        (child,) = self.children()
        return child

    def ask(self, *arguments: str) -> str:
        """Run a client command that must succeed and return what it printed."""
        done = holdfast(*arguments, env=self.env)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def begin(self) -> str:
        """Start an invocation and return its id once its first step is recorded."""
        invocation_id = self.ask("send", "Greeter/twice", '"x"')
        while not self._first_step(invocation_id):
            pass
        return invocation_id

    def finish(self, invocation_id: str) -> list[int]:
        """Let an invocation go on after its first step; return the processes of its steps."""
        row = json.loads(self.ask("inv", "get", invocation_id, "--json"))["invocation"]
        assert row["status"] != "completed"
        awakeable = self._first_step(invocation_id)["awakeable_id"]
        connection = http.client.HTTPConnection(self.env["HOLDFAST_INGRESS"], timeout=PATIENCE_S)
        path = f"/restate/awakeables/{awakeable}/resolve"
        connection.request("POST", path, b'"go"', {"content-type": "application/json"})
        assert connection.getresponse().status == 202
        connection.close()
        steps: list[int] = json.loads(self.ask("attach", invocation_id))
        return steps

    def _first_step(self, invocation_id: str) -> dict[str, object]:
        entries = json.loads(self.ask("inv", "journal", invocation_id, "--json"))["entries"]
        results = [each["payload"] for each in entries if each["kind"] == "Notification: Run"]
        result: dict[str, object] = results[0]["value"] if results else {}
        return result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with an agent."""
    (tmp_path / "agent.py").write_text(AGENT)
    return tmp_path


@contextlib.contextmanager
def running(folder: Path, *options: str) -> Iterator[Dev]:
    dev = Dev(folder, *options)
    with dev:
        yield dev


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_for_end(pid: int) -> None:
    """Wait for the end of a process that is not our child."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        ready, _, _ = select.select([descriptor], [], [], PATIENCE_S)
        os.close(descriptor)
        assert ready, f"process {pid} still runs"


def test_a_killed_worker_is_started_again_and_nothing_is_repeated(folder: Path) -> None:
    with running(folder) as dev:
        first = dev.ready()
        assert dev.ask("call", "Greeter/greet", '"Ada"') == '"Hello Ada"'
        invocation_id = dev.begin()
        os.kill(first, signal.SIGKILL)
        dev.until("The worker was ended by SIGKILL. Starting it again now.")
        steps = dev.finish(invocation_id)
        assert steps[0] == first
        assert steps[1] != first
        assert [steps[1]] == list(dev.children())
        done = holdfast("call", "Greeter/fail", '"Bob"', env=dev.env)
        assert done.returncode == 1
        assert "no greeting for Bob" in done.stderr
        dev.send_signal(signal.SIGTERM)
        assert dev.wait() == 0
        assert not is_alive(steps[1])


def test_saving_a_file_brings_the_new_code_and_open_invocations_go_on(folder: Path) -> None:
    with running(folder) as dev:
        first = dev.ready()
        invocation_id = dev.begin()
        (folder / "agent.py").write_text(AGENT.replace("Hello", "Good morning"))
        dev.until("Reloaded")
        wait_for_end(first)
        assert dev.ask("call", "Greeter/greet", '"Ada"') == '"Good morning Ada"'
        steps = dev.finish(invocation_id)
        assert steps[0] == first
        assert steps[1] != first
        # Draining hands over without a failure: no retry, no backoff.
        row = json.loads(dev.ask("inv", "get", invocation_id, "--json"))["invocation"]
        assert row["retry_count"] == 0
        assert row["last_failure"] is None
        dev.send_signal(signal.SIGINT)
        assert dev.wait() == 0


def test_broken_code_is_told_and_the_old_code_keeps_running(folder: Path) -> None:
    with running(folder) as dev:
        first = dev.ready()
        (folder / "agent.py").write_text(AGENT + "\nx = (\n")
        dev.until(r"error\[HF1214\]")
        dev.until("The version before keeps running")
        assert list(dev.children()) == [first]
        assert dev.ask("call", "Greeter/greet", '"Ada"') == '"Hello Ada"'
        (folder / "agent.py").write_text(AGENT)
        dev.until("Reloaded")
        # Broken again, and then the old process dies: now there is none, until the next save.
        (folder / "agent.py").write_text(AGENT + "\nraise ValueError\n")
        dev.until("The version before keeps running", count=2)
        (second,) = dev.children()
        os.kill(second, signal.SIGKILL)
        dev.until("Nothing is running")
        (folder / "agent.py").write_text(AGENT.replace("Hello", "Welcome"))
        dev.until("Reloaded", count=2)
        assert dev.ask("call", "Greeter/greet", '"Ada"') == '"Welcome Ada"'


def test_without_reload_files_may_change(folder: Path) -> None:
    with running(folder, "--no-reload") as dev:
        first = dev.ready()
        (folder / "agent.py").write_text(AGENT.replace("Hello", "Good morning"))
        os.kill(first, signal.SIGKILL)
        dev.until("was ended by SIGKILL")
        assert dev.ask("call", "Greeter/greet", '"Ada"') == '"Good morning Ada"'
        assert "Files changed" not in dev.text


def test_an_app_that_cannot_be_loaded_exits_2(folder: Path) -> None:
    (folder / "agent.py").write_text("import no_such_package\n")
    with running(folder) as dev:
        assert dev.wait() == 2
        assert "error[HF1214]" in dev.text


def test_a_worker_that_dies_while_it_starts_exits_1(folder: Path) -> None:
    (folder / "agent.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    with running(folder) as dev:
        assert dev.wait() == 1
        assert "SIGKILL" in dev.text


def test_when_the_parent_is_killed_the_worker_ends(folder: Path) -> None:
    with running(folder) as dev:
        child = dev.ready()
        dev.send_signal(signal.SIGKILL)
        assert dev.wait() == -signal.SIGKILL
        wait_for_end(child)


def test_what_was_open_goes_on_at_the_next_start(folder: Path) -> None:
    with running(folder) as dev:
        first = dev.ready()
        invocation_id = dev.begin()
        dev.send_signal(signal.SIGKILL)
        dev.wait()
    with running(folder) as dev:
        second = dev.ready()
        assert dev.finish(invocation_id) == [first, second]


def test_a_worker_of_its_own_connects_drains_and_leaves(folder: Path, tmp_path: Path) -> None:
    ingress, admin = free_ports(2)
    env = {
        "HOLDFAST_INGRESS": f"127.0.0.1:{ingress}",
        "HOLDFAST_ADMIN": f"127.0.0.1:{admin}",
        "HOLDFAST_CONNECT": f"http://127.0.0.1:{admin}",
        "HOLDFAST_STORE": "memory:",
    }
    with Running("worker", "agent:app", cwd=folder, env=env) as worker:
        worker.until("no connection to .* will keep trying")
        with Running("server", cwd=tmp_path, env=env) as server:
            worker.until("Serving Greeter to ")
            done = holdfast("call", "Greeter/greet", '"Ada"', env=env)
            assert done.stdout == '"Hello Ada"\n'
            worker.send_signal(signal.SIGTERM)
            assert worker.wait() == 0
            server.until("disconnected")


def test_of_two_workers_of_one_name_the_older_exits_with_the_reason(folder: Path) -> None:
    ingress, admin = free_ports(2)
    env = {
        "HOLDFAST_INGRESS": f"127.0.0.1:{ingress}",
        "HOLDFAST_ADMIN": f"127.0.0.1:{admin}",
        "HOLDFAST_CONNECT": f"http://127.0.0.1:{admin}",
        "HOLDFAST_STORE": "memory:",
        "HOLDFAST_NAME": "box",
    }
    with (
        Running("server", cwd=folder, env=env) as server,
        Running("worker", "agent.py:app", cwd=folder, env=env) as older,
    ):
        older.until("Serving")
        with Running("worker", "agent.py:app", cwd=folder, env=env) as newer:
            newer.until("Serving")
            assert older.wait() == 2
            assert "error[HF1305]" in older.text
        server.until("disconnected")


def test_a_worker_at_the_wrong_address_exits_2(folder: Path) -> None:
    with running(folder) as dev:
        dev.ready()
        url = f"http://{dev.env['HOLDFAST_INGRESS']}"
        done = holdfast("worker", "agent.py:app", "--connect", url, cwd=folder)
        assert done.returncode == 2
        assert "error[HF1304]" in done.stderr
    done = holdfast("worker", "agent.py:app", "--connect", "127.0.0.1:9070", cwd=folder)
    assert done.returncode == 2
    assert "error[HF1206]" in done.stderr


def test_a_sleeping_thread_does_not_hold_up_the_end(folder: Path) -> None:
    slow = "\ndef sleep_long() -> None:\n    import time\n    time.sleep(600)\n"
    handler = (
        "\n@greeter.handler\nasync def sleep(ctx: hf.Context, name: str) -> None:\n"
        '    await ctx.run("long", sleep_long)\n'
    )
    (folder / "agent.py").write_text(AGENT.replace("app =", f"{slow}{handler}\napp ="))
    ingress, admin = free_ports(2)
    env = {
        "HOLDFAST_INGRESS": f"127.0.0.1:{ingress}",
        "HOLDFAST_ADMIN": f"127.0.0.1:{admin}",
        "HOLDFAST_CONNECT": f"http://127.0.0.1:{admin}",
        "HOLDFAST_STORE": "memory:",
    }
    with (
        Running("server", cwd=folder, env=env),
        Running("worker", "agent.py:app", "--drain-grace", "0.1", cwd=folder, env=env) as worker,
    ):
        worker.until("Serving")
        assert holdfast("send", "Greeter/sleep", '"x"', env=env).returncode == 0
        while "sleep" not in holdfast("inv", "ls", "--status", "running", env=env).stdout:
            pass
        worker.send_signal(signal.SIGTERM)
        assert worker.wait() == 0


@pytest.mark.parametrize(
    ("code", "text"),
    [(-9, "was ended by SIGKILL"), (1, "ended with exit code 1"), (-99, "was ended by signal 99")],
)
def test_how_it_ended(code: int, text: str) -> None:
    assert re.fullmatch(text, how_it_ended(code))
