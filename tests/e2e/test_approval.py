"""Approvals in real processes: SIGKILL between each step, links from a phone, the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from .harness import APPS, Answer, Holdfast, Ledger, ask, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs POSIX signals")

ROUTE = "/holdfast/v1/approvals"
SECRET = {"HOLDFAST_APPROVAL_SECRET": "a secret of the operator"}
YES = {"value": {"amount": 9.5}}


@pytest.fixture(params=["dev", "apart"])
def holdfast(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Holdfast]:
    """Server and worker: as one command, and as two."""
    env = Ledger(tmp_path / "ledger").env | SECRET
    with Holdfast(tmp_path, f"{APPS / 'approvals.py'}:app", env) as holdfast:
        if request.param == "dev":
            holdfast.dev("--no-reload")
        else:
            holdfast.up()
        yield holdfast


def crash(holdfast: Holdfast) -> None:
    """Kill all processes, and start them again."""
    names = ["dev"] if "dev" in holdfast._current else ["worker", "server"]
    for name in names:
        holdfast.current(name).kill()
    if names == ["dev"]:
        holdfast.dev("--no-reload")
    else:
        holdfast.up()


def mail(folder: Path, claim: int) -> tuple[str, str]:
    """Wait for the mail; return id and link of the approval."""

    def find() -> tuple[str, str] | None:
        for line in (folder / "ledger").read_text().splitlines():
            match line.split():
                case ["mail", number, approval_id, link] if number == str(claim):
                    return approval_id, link
        return None

    return wait_until(find, f"the mail about {claim}")


def decide(host: str, path: str, verb: str, body: Any) -> Answer:
    place, _, query = path.partition("?")
    content = json.dumps(body).encode()
    return ask("POST", host, f"{place}/{verb}?{query}", content)


def test_a_kill_between_each_step(holdfast: Holdfast) -> None:
    invocation_id = holdfast.send("Desk/pay", 17)
    approval_id, link = mail(holdfast.folder, 17)
    crash(holdfast)
    assert link.startswith(f"http://{holdfast.ingress}{ROUTE}/{approval_id}?token=")
    path = link.removeprefix(f"http://{holdfast.ingress}")
    shown = ask("GET", holdfast.ingress, path).ok()
    assert (shown["status"], shown["title"]) == ("open", "Pay claim 17")
    wrong = decide(holdfast.ingress, path, "approve", {"value": {"amount": "much"}})
    assert (wrong.status, wrong.error_code()) == (400, "HF1412")
    crash(holdfast)
    assert decide(holdfast.ingress, path, "approve", YES).ok()["by"] == "finance"
    crash(holdfast)
    again = decide(holdfast.ingress, path, "reject", {})
    assert (again.status, again.error_code()) == (409, "HF1411")
    assert holdfast.attach(invocation_id).ok() == {"approved": True, "by": "finance"}
    lines = (holdfast.folder / "ledger").read_text().splitlines()
    assert sorted({line.split()[0] for line in lines}) == ["look", "mail", "pay"]
    # A body whose result was lost with the kill runs again, with the same decision.
    assert {line for line in lines if line.startswith("pay")} == {"pay 17 9.5"}
    # One that was not recorded before the kill is sent again: about the same approval.
    assert {line.split()[2] for line in lines if line.startswith("mail")} == {approval_id}


def test_a_decision_that_was_answered_outlives_the_server(holdfast: Holdfast) -> None:
    invocation_id = holdfast.send("Desk/pay", 3)
    approval_id, _ = mail(holdfast.folder, 3)
    body = {**YES, "by": "Ann"}
    decide(holdfast.admin, f"{ROUTE}/{approval_id}", "approve", body).ok()
    crash(holdfast)
    found = ask("GET", holdfast.admin, f"{ROUTE}/{approval_id}").ok()
    assert (found["status"], found["by"], found["value"]) == ("approved", "Ann", {"amount": 9.5})
    assert holdfast.attach(invocation_id).ok() == {"approved": True, "by": "Ann"}


def test_of_two_deciders_one_wins(holdfast: Holdfast) -> None:
    holdfast.send("Desk/pay", 5)
    approval_id, link = mail(holdfast.folder, 5)
    path = link.removeprefix(f"http://{holdfast.ingress}")
    doors = [(holdfast.ingress, path), (holdfast.admin, f"{ROUTE}/{approval_id}")] * 4
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda door: decide(*door, "reject", {"by": "Ann"}), doors))
    assert sorted(answer.status for answer in answers) == [200] + [409] * 7


def test_the_deadline_passes_while_nothing_runs(tmp_path: Path) -> None:
    env = Ledger(tmp_path / "ledger").env | SECRET
    with Holdfast(tmp_path, f"{APPS / 'approvals.py'}:app", env) as holdfast:
        holdfast.up()
        invocation_id = holdfast.send("Desk/short")
        holdfast.until_journal(invocation_id, "Command: AskApproval")
        for name in ("worker", "server"):
            holdfast.current(name).kill()
        holdfast.up()
        assert holdfast.attach(invocation_id).ok() is True
        [found] = ask("GET", holdfast.admin, f"{ROUTE}?status=expired").ok()["approvals"]
        assert found["invocation_id"] == invocation_id


def test_the_front_doors_and_the_command_line(holdfast: Holdfast) -> None:
    invocation_id = holdfast.send("Desk/pay", 8)
    approval_id, _ = mail(holdfast.folder, 8)
    refused = ask("GET", holdfast.ingress, f"{ROUTE}/{approval_id}")
    assert (refused.status, refused.error_code()) == (401, "HF1417")
    awakeable = holdfast.post(f"/restate/awakeables/{approval_id}/resolve", True)
    assert (awakeable.status, awakeable.error_code()) == (409, "HF1416")
    admin = f"--admin=http://{holdfast.admin}"
    listed = holdfast.run("ls", "approvals", "ls", admin, "--json")
    assert listed.wait() == 0
    assert json.loads(listed.text)["approvals"][0]["id"] == approval_id
    wrong = holdfast.run("approve", "approvals", "approve", approval_id, admin)
    assert (wrong.wait(), "HF1412" in wrong.text) == (2, True)
    value = '--value={"amount": 1}'
    good = holdfast.run("approve", "approvals", "approve", approval_id, value, "--by=Ann", admin)
    assert (good.wait(), good.text) == (0, "Approved: Pay claim 8\n")
    late = holdfast.run("reject", "approvals", "reject", approval_id, admin)
    assert (late.wait(), "by Ann at" in late.text) == (4, True)
    missing = holdfast.run("get", "approvals", "get", "sign_1" + "A" * 38, admin)
    assert (missing.wait(), "HF1410" in missing.text) == (3, True)
    got = holdfast.run("get", "approvals", "get", approval_id, admin)
    assert (got.wait(), "Ann" in got.text) == (0, True)
    assert holdfast.attach(invocation_id).ok() == {"approved": True, "by": "Ann"}
    journal = holdfast.journal(invocation_id)
    [asked] = [entry for entry in journal if entry["kind"] == "Command: AskApproval"]
    assert asked["title"] == "Pay claim 8"
    assert asked["payload"]["value"] == {"claim": 8}
