"""A workflow over real processes: once per key, promises, and what HTTP says about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .harness import APPS, Answer, Holdfast, Ledger, ask

PATH = "/restate/workflow/Signup/ann"


@pytest.fixture
def signup(tmp_path: Path, ledger: Ledger) -> Iterator[Holdfast]:
    with Holdfast(tmp_path, f"{APPS / 'signup.py'}:app", ledger.env) as holdfast:
        yield holdfast


def get(holdfast: Holdfast, path: str) -> Answer:
    return ask("GET", holdfast.ingress, path)


def restart_server(holdfast: Holdfast) -> None:
    holdfast.current("server").kill()
    holdfast.server().until("Ready")


def restart_worker(holdfast: Holdfast) -> None:
    holdfast.current("worker").kill()
    holdfast.worker().until("Serving")


def restart_dev(holdfast: Holdfast) -> None:
    holdfast.current("dev").kill()
    holdfast.dev("--no-reload")


@pytest.mark.parametrize("restart", [restart_server, restart_worker, restart_dev])
def test_a_workflow_survives(
    restart: Callable[[Holdfast], None], signup: Holdfast, ledger: Ledger
) -> None:
    if restart is restart_dev:
        signup.dev("--no-reload")
    else:
        signup.up()
    assert get(signup, f"{PATH}/output").status == 404
    sent = signup.post("/Signup/ann/run/send", "a@b").ok()
    assert sent["status"] == "Accepted"
    inv = sent["invocationId"]
    again = signup.post("/Signup/ann/run/send", "c@d")
    assert (again.status, again.ok()["invocationId"]) == (202, inv)
    assert again.ok()["status"] == "PreviouslyAccepted"
    signup.until_journal(inv, "Command: GetPromise")
    signup.until_status(inv, "suspended")
    assert get(signup, f"{PATH}/output").status == 470
    assert signup.call("Signup/ann/status") == ["waiting", None]

    restart(signup)

    assert signup.call("Signup/ann/confirm", "yes") is None
    attached = get(signup, f"{PATH}/attach")
    assert attached.ok() == "ann yes"
    assert attached.headers["x-restate-id"] == inv
    assert get(signup, f"{PATH}/output").ok() == "ann yes"
    refused = signup.post("/Signup/ann/run", "e@f")
    assert (refused.status, refused.headers["x-restate-error-source"]) == (409, "invocation")
    assert refused.json()["message"] == "the workflow method was already invoked"
    assert refused.json()["metadata"] == {"error_code": "HF1070"}
    late = signup.post("/Signup/ann/confirm", "no")
    assert (late.status, late.json()["message"]) == (409, "promise already completed")
    assert signup.call("Signup/ann/status") == ["waiting", "yes"]
    assert ledger.lines() == ["mail a@b", "done yes"]
    shown = ask("GET", signup.admin, "/services/Signup").ok()
    assert shown["workflow_completion_retention"] == "2h"

    assert signup.patch(inv, "purge").status == 200
    assert get(signup, f"{PATH}/output").status == 404
    assert signup.call("Signup/ann/status") == [None, None]
    assert signup.post("/Signup/ann/run/send", "g@h").ok()["status"] == "Accepted"


def test_the_command_line(signup: Holdfast) -> None:
    signup.dev("--no-reload")
    ingress = f"--ingress={signup.ingress}"
    assert signup.run("confirm", "call", "Signup/ann/confirm", '"yes"', ingress).wait() == 0
    call = signup.run("call", "call", "Signup/ann/run", '"a@b"', ingress)
    assert call.wait() == 0, call.text
    assert json.loads(call.text) == "ann yes"
    assert signup.run("again", "call", "Signup/ann/run", '"a@b"', ingress).wait() != 0
    assert "already invoked" in signup.current("again").text
