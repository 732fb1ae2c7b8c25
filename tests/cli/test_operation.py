"""The commands that steer invocations, against a server that answers what a test wants."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from cli_harness import environment, holdfast
from test_call import JSON, Fake, Reply


@pytest.fixture
def fake() -> Iterator[Fake]:
    server = Fake()
    yield server
    server.close()


def said(value: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps(value).encode(), (JSON,))


def found(*ids: str, following: str | None = None, **members: object) -> Reply:
    items = [
        {"id": each, "target": "A/b", "status": "paused", "result": "resumed", **members}
        for each in ids
    ]
    return said({"invocations": items, "next": following})


def lines(fake: Fake) -> list[str]:
    return [asked.line for asked in fake.asked]


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (("pause",), "pause"),
        (("resume",), "resume"),
        (("resume", "--deployment", "latest"), "resume?deployment=latest"),
        (("retry",), "resume"),
        (("restart",), "restart-as-new"),
        (
            ("restart", "--from", "7", "--deployment", "dp_1"),
            "restart-as-new?from=7&deployment=dp_1",
        ),
        (("purge",), "purge"),
        (("purge", "--journal-only"), "purge-journal"),
    ],
)
def test_ids_are_steered_one_by_one(fake: Fake, arguments: tuple[str, ...], path: str) -> None:
    fake.replies = [said({"result": "already done", "new_invocation_id": "inv_2"})]
    done = holdfast("inv", *arguments, "inv_1", env=fake.env)
    assert (done.returncode, done.stdout) == (0, "inv_1\talready done\tinv_2\n")
    assert lines(fake) == [f"PATCH /invocations/inv_1/{path}"]
    assert ("Awakeables have new ids" in done.stderr) == ("--from" in arguments)


def test_one_that_is_refused_does_not_stop_the_others(fake: Fake) -> None:
    refusal = {"message": "It runs.", "error_code": "HF1250", "hint": "Wait."}
    fake.replies = [said(refusal, 409), said({"result": "purged"})]
    done = holdfast("inv", "purge", "inv_1", "inv_2", env=fake.env)
    assert (done.returncode, done.stdout) == (4, "inv_1\trefused: It runs.\ninv_2\tpurged\n")
    assert "error[HF3052]: 1 of 2 were refused" in done.stderr
    fake.replies = [said(refusal, 409)]
    done = holdfast("inv", "purge", "inv_1", env=fake.env)
    assert (done.returncode, done.stdout) == (4, "")
    assert "error[HF1250]: It runs." in done.stderr


def test_a_filter_is_asked_first_and_then_done_to_what_it_found(fake: Fake) -> None:
    fake.replies = [found("inv_1", following="9-inv_1"), found("inv_2"), found("inv_1", "inv_2")]
    done = holdfast(
        "inv", "resume", "--service", "A", "--status", "paused", "--deployment", "latest", "--yes",
        "--json", env=fake.env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)["invocations"]
    assert shown == [{"id": "inv_1", "result": "resumed"}, {"id": "inv_2", "result": "resumed"}]
    assert lines(fake) == ["POST /holdfast/v1/invocations/batch/resume"] * 3
    wanted = {"service": "A", "status": ["paused"], "dry_run": True}
    assert [json.loads(asked.body) for asked in fake.asked] == [
        wanted,
        wanted | {"before": "9-inv_1"},
        {"ids": ["inv_1", "inv_2"], "deployment": "latest"},
    ]


def test_a_dry_run_shows_what_would_be_done(fake: Fake) -> None:
    fake.replies = [found("inv_1", "inv_2")]
    done = holdfast("inv", "retry", "--all", "--dry-run", env=fake.env)
    assert done.returncode == 0
    assert done.stdout == "inv_1\tpaused\tA/b\tresumed\ninv_2\tpaused\tA/b\tresumed\n"
    assert "2 found; nothing was done" in done.stderr
    (asked,) = fake.asked
    assert json.loads(asked.body) == {"all": True, "dry_run": True, "status": ["backing-off"]}
    done = holdfast("inv", "retry", "inv_1", "--dry-run", "--json", env=fake.env)
    assert json.loads(done.stdout)["dry_run"] is True
    assert json.loads(fake.asked[1].body) == {"ids": ["inv_1"], "dry_run": True}


def test_many_need_a_yes_when_nobody_can_be_asked(fake: Fake) -> None:
    fake.replies = [found("inv_1", "inv_2")]
    done = holdfast("inv", "kill", "--service", "A", env=fake.env)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error[HF3050]: The filter finds 2 invocations" in done.stderr
    assert len(fake.asked) == 1
    fake.replies = [found("inv_1")]
    done = holdfast("inv", "kill", "--service", "A", env=fake.env)
    assert (done.returncode, done.stdout) == (0, "inv_1\tresumed\n")
    fake.replies = [found()]
    done = holdfast("inv", "kill", "--service", "A", env=fake.env)
    assert (done.returncode, done.stdout) == (0, "")
    assert "There is nothing to kill" in done.stderr


@pytest.mark.parametrize(("answer", "code", "count"), [(b"y\n", 0, 2), (b"n\n", 130, 1)])
def test_on_a_terminal_a_person_is_asked(fake: Fake, answer: bytes, code: int, count: int) -> None:
    ids = [f"inv_{number}" for number in range(7)]
    fake.replies = [found(*ids), found(*ids)]
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer)
        done = subprocess.run(
            [sys.executable, "-m", "holdfast.cli", "inv", "pause", "--service", "A"],
            env=environment(fake.env),
            stdin=theirs,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == code, done.stderr
    assert "Pause 7 invocations:" in done.stderr
    assert "inv_4  paused  A/b\n  and 2 more\nGo on?" in done.stderr
    assert len(fake.asked) == count


def test_ages_are_times(fake: Fake) -> None:
    fake.replies = [found()]
    before = datetime.now(UTC)
    holdfast("inv", "purge", "--older-than", "1h 30m", "--newer-than", "7d", env=fake.env)
    body = json.loads(fake.asked[0].body)
    after = datetime.now(UTC)
    for name, seconds in (("created_before", 5_400), ("created_after", 604_800)):
        at = datetime.fromisoformat(body[name])
        assert (before - at).total_seconds() <= seconds <= (after - at).total_seconds()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("pause",), "HF3051", "pause which invocations?"),
        (("pause", "inv_1", "--service", "A"), "HF3051", "not both"),
        (("restart", "--service", "A", "--from", "2"), "HF3051", "--from needs exactly one ID"),
        (("restart", "inv_1", "inv_2", "--from", "2"), "HF3051", "--from needs exactly one ID"),
        (("purge", "--older-than", "soon"), "HF3053", "soon is no length of time"),
    ],
)
def test_what_is_not_clear_is_refused(
    fake: Fake, arguments: tuple[str, ...], code: str, text: str
) -> None:
    done = holdfast("inv", *arguments, env=fake.env)
    assert (done.returncode, fake.asked) == (2, [])
    assert f"error[{code}]" in done.stderr
    assert text in done.stderr
