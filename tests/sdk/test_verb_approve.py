"""`ctx.approve`: asked once, decided once, the same at every replay; in virtual time."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.domain.approval import ApprovalStatus
from holdfast.domain.ids import parse_awakeable_id
from holdfast.domain.message import AskApproval, Failure, Signal, Value
from holdfast.testing import Environment, environment

from .fake_server import FakeServer
from .loops import both_loops
from .test_foreign import WireApp
from .webhook_server import Told, webhook_server

DAY = timedelta(days=1)


@dataclass
class Form:
    amount: float
    note: str = ""


desk = hf.Service("Desk")
links: list[str | None] = []
ids: list[str] = []


def shown(decision: hf.Decision[Any]) -> dict[str, Any]:
    seen = asdict(decision)
    return {k: seen[k] for k in ("approved", "value", "arguments", "by", "comment", "timed_out")}


@desk.handler
async def pay(ctx: hf.Context, options: dict[str, Any]) -> dict[str, Any]:
    await ctx.run("look", lambda: 1)
    approval = ctx.approve(
        "Pay claim 17",
        payload={"claim": 17},
        why="more than 100",
        assignee="finance",
        form=Form,
        arguments={"to": "ada", "euros": 120},
        editable={"euros": float},
        **options,
    )
    links.append(approval.link)
    ids.append(approval.id)
    decision = await approval
    assert bool(decision) is decision.approved
    await ctx.run("act", lambda: 1)
    return shown(decision)


@desk.handler
async def plain(ctx: hf.Context, options: dict[str, Any]) -> dict[str, Any]:
    return shown(await ctx.approve("Deploy", **options))


@desk.handler
async def several(ctx: hf.Context, count: int) -> list[str]:
    """Ask in parallel: as many tool calls do."""
    decisions = await asyncio.gather(*(ctx.approve(f"Tool {n}") for n in range(count)))
    return [decision.by for decision in decisions]


@desk.handler
async def impatient(ctx: hf.Context) -> list[Any]:
    """Give one approval up, and ask another."""
    try:
        async with asyncio.timeout(60):
            await ctx.approve("First")
    except TimeoutError:
        first = "given up"
    else:
        first = "decided"
    return [first, (await ctx.approve("Second")).approved]


@desk.handler
async def stubborn(ctx: hf.Context) -> str:
    """Do something about a cancellation before the end."""
    try:
        await ctx.approve("Long")
    except hf.TerminalError as error:
        await ctx.sleep(DAY)
        return f"{error.code}"
    return "decided"


app = hf.App(desk)
DECIDED = {
    "approved": True,
    "value": {"amount": 90.0, "note": ""},
    "arguments": {"to": "ada", "euros": 90.0},
    "by": "ann",
    "comment": "ok",
    "timed_out": False,
}


@pytest.fixture(autouse=True)
def forget() -> None:
    links.clear()
    ids.clear()


async def decide_only_one(env: Environment) -> None:
    [approval] = await env.approvals()
    await env.decide(
        approval.id, True, value=Form(90), arguments={"euros": 90.0}, by="ann", comment="ok"
    )


@both_loops
async def test_a_decision_with_form_and_edited_arguments() -> None:
    async with environment(app) as env:
        sent = await env.client.send(pay, {})
        [approval] = await env.approvals()
        assert approval.asked is not None
        assert (approval.row.title, approval.row.assignees) == ("Pay claim 17", ("finance",))
        assert (approval.asked.why, approval.asked.payload) == ("more than 100", b'{"claim":17}')
        await env.advance(30 * DAY)
        await decide_only_one(env)
        assert await env.client.attach(sent.invocation_id, type=dict[str, Any]) == DECIDED
        assert await env.approvals() == []


@pytest.mark.parametrize("store", ["memory:", "sqlite:"])
@pytest.mark.parametrize(
    "point", ["before:approve", "after:approve", "after:look", "before:act", "during:act"]
)
async def test_a_crash_at_each_step(point: str, store: str, tmp_path: Path) -> None:
    where = store if store == "memory:" else f"sqlite:{tmp_path / 'data.db'}"
    async with environment(app, store=where) as env:
        env.crash_at(point)
        sent = await env.client.send(pay, {"timeout": 7 * 86_400})
        await env.advance(DAY)
        await decide_only_one(env)
        assert await env.client.attach(sent.invocation_id, type=dict[str, Any]) == DECIDED
        assert env.crashes
        assert await env.steps(sent.invocation_id) == ["look", "act"]
        assert len(set(ids)) == 1
        if "before:approve" not in point:
            assert len(set(links)) == 1
        asks = [e for e in await env.journal(sent.invocation_id) if "Ask" in str(e["kind"])]
        assert len(asks) == 1


@both_loops
async def test_each_wait_as_a_suspension() -> None:
    async with environment(app, always_replay=True, strict=False) as env:
        sent = await env.client.send(pay, {"timeout": 3600})
        await decide_only_one(env)
        assert await env.client.attach(sent.invocation_id, type=dict[str, Any]) == DECIDED
        recording = await env.recording(sent.invocation_id)
    report = await hf.testing.replay(recording, app)
    assert report.is_ok, report


@pytest.mark.parametrize("always_replay", [False, True])
@pytest.mark.parametrize(("then", "approved"), [("reject", False), ("approve", True)])
async def test_the_deadline(then: str, approved: bool, always_replay: bool) -> None:
    async with environment(app, always_replay=always_replay) as env:
        options = {"timeout": 7 * 86_400, "on_timeout": then}
        seen = await env.client.call(plain, options)
        assert (seen["approved"], seen["timed_out"]) == (approved, True)


async def test_a_deadline_that_fails() -> None:
    async with environment(app) as env:
        with pytest.raises(hf.TerminalError, match="HF0593") as failed:
            await env.client.call(plain, {"timeout": 60, "on_timeout": "fail"})
        assert (failed.value.code, failed.value.metadata) == (408, {"error_code": "HF0593"})


async def test_one_of_two_deciders_wins() -> None:
    async with environment(app) as env:
        sent = await env.client.send(plain, {})
        [approval] = await env.approvals()
        answers = await asyncio.gather(
            *(env.decide(approval.id, n % 2 == 0, by=f"p{n}") for n in range(8)),
            return_exceptions=True,
        )
        refused = [a for a in answers if isinstance(a, hf.ConflictError)]
        assert (len(refused), answers.count(None)) == (7, 1)
        winner = f"p{answers.index(None)}"
        assert all(f"by {winner} at" in error.message for error in refused)
        seen = await env.client.attach(sent.invocation_id, type=dict[str, Any])
        assert seen["by"] == winner


async def test_many_at_once_each_with_its_own_decision() -> None:
    async with environment(app, always_replay=True) as env:
        sent = await env.client.send(several, 20)
        open_ones = await env.approvals()
        for approval in reversed(open_ones):
            await env.decide(approval.id, True, by=approval.row.title)
        seen = await env.client.attach(sent.invocation_id, type=list[str])
        assert seen == [f"Tool {n}" for n in range(20)]


@pytest.mark.parametrize("always_replay", [False, True])
async def test_who_gives_up_withdraws(always_replay: bool) -> None:
    async with environment(app, always_replay=always_replay) as env:
        sent = await env.client.send(impatient)
        [first] = await env.approvals()
        await env.advance(61)
        [second] = await env.approvals()
        assert second.row.title == "Second"
        with pytest.raises(hf.ConflictError, match="withdrawn"):
            await env.decide(first.id, True)
        await env.decide(second.id, True)
        assert await env.client.attach(sent.invocation_id, type=list[Any]) == ["given up", True]


async def test_a_failed_attempt_does_not_withdraw() -> None:
    flaky = hf.Service("Flaky")
    failures = iter([True, True, False])

    @flaky.handler
    async def go(ctx: hf.Context) -> bool:
        async def ask() -> bool:
            return (await ctx.approve("Go")).approved

        async def fail() -> None:
            await ctx.sleep(1)
            if next(failures):
                raise RuntimeError("try again")

        async with asyncio.TaskGroup() as group:
            asked = group.create_task(ask())
            group.create_task(fail())
        return asked.result()

    async with environment(hf.App(flaky)) as env:
        sent = await env.client.send(go)
        await env.advance(30)
        [approval] = await env.approvals()
        assert approval.row.status is ApprovalStatus.OPEN
        await env.decide(approval.id, True)
        assert await env.client.attach(sent.invocation_id, type=bool) is True


async def test_a_cancellation_withdraws_and_leaves_the_handler_time() -> None:
    async with environment(app) as env:
        sent = await env.client.send(stubborn)
        assert len(await env.approvals()) == 1
        await env.client.cancel(sent.invocation_id)
        assert await env.approvals() == []
        assert await env.client.attach(sent.invocation_id, type=str) == "409"


async def test_an_awakeable_is_no_way_round_the_form() -> None:
    async with environment(app) as env:
        await env.client.send(pay, {})
        [approval] = await env.approvals()
        with pytest.raises(hf.ConflictError, match="HF1416"):
            await env.client.resolve(approval.id, {"approved": True})
        with pytest.raises(hf.UsageError, match="HF1412") as misfit:
            await env.decide(approval.id, True, value={"amount": "much"})
        assert "$.amount" in misfit.value.message
        with pytest.raises(hf.UsageError, match="HF1412") as misfit:
            await env.decide(approval.id, True, value=Form(1), arguments={"to": "eve"})
        assert "$.to" in misfit.value.message
        with pytest.raises(hf.UsageError, match="HF1412"):
            await env.decide(approval.id, True)
        assert len(await env.approvals()) == 1
        await env.decide(approval.id, False)


async def test_what_fits_the_schema_and_not_the_type_is_terminal() -> None:
    from pydantic import BaseModel, field_validator

    class Picky(BaseModel):
        code: str

        @field_validator("code")
        @classmethod
        def check(cls, code: str) -> str:
            if code != "right":
                raise ValueError("wrong code")
            return code

    picky = hf.Service("Picky")

    @picky.handler
    async def go(ctx: hf.Context) -> str:
        with pytest.raises(hf.TerminalError, match="HF0592"):
            await ctx.approve("Code", form=Picky)
        decision = await ctx.approve("Code again", form=Picky)
        assert decision.value is not None
        return decision.value.code

    async with environment(hf.App(picky)) as env:
        sent = await env.client.send(go)
        [approval] = await env.approvals()
        await env.decide(approval.id, True, value={"code": "wrong"})
        [again] = await env.approvals()
        await env.decide(again.id, True, value={"code": "right"})
        assert await env.client.attach(sent.invocation_id, type=str) == "right"


# -- links -----------------------------------------------------------------------------------------

linked = hf.Service("Linked")


@linked.handler
async def make_links(ctx: hf.Context) -> list[str | None]:
    approval = ctx.approve("Two", assignee=["ann", "bob"])
    with pytest.raises(hf.UsageError, match="HF0590"):
        approval.link_for("eve")
    return [approval.link, approval.link_for("ann"), approval.link_for("bob")]


async def test_links_are_signed_for_each_person() -> None:
    async with environment(hf.App(linked)) as env:
        made = await env.client.call(make_links)
        assert len(set(made)) == 3
        assert all(each.startswith("/holdfast/v1/approvals/sign_1") for each in made)


# -- webhooks --------------------------------------------------------------------------------------


@pytest.fixture
def told() -> Any:
    with webhook_server() as told:
        yield told


@pytest.mark.parametrize("always_replay", [False, True])
async def test_reminders_until_there_is_a_decision(told: Told, always_replay: bool) -> None:
    async with environment(app, always_replay=always_replay) as env:
        options = {"notify_url": told.url, "remind_url": told.url, "remind_every": 86_400}
        sent = await env.client.send(plain, options)
        [approval] = await env.approvals()
        await env.advance(2.5 * DAY)
        assert [body["reminder"] for body in told.bodies] == [0, 1, 2]
        assert {body["id"] for body in told.bodies} == {approval.id}
        assert told.bodies[0]["title"] == "Deploy"
        assert approval.id in told.bodies[0]["link"]
        await env.decide(approval.id, True)
        seen = await env.client.attach(sent.invocation_id, type=dict[str, Any])
        assert seen["approved"]
        await env.advance(5 * DAY)
        assert len(told.bodies) == 3


async def test_a_webhook_that_is_down_holds_nobody_up(told: Told) -> None:
    told.refusals = 5
    async with environment(app) as env:
        options = {"notify_url": told.url, "remind_url": told.url, "remind_every": 3600}
        sent = await env.client.send(plain, options)
        await env.advance(timedelta(minutes=130))
        assert [body["reminder"] for body in told.bodies] == [1, 2]
        [approval] = await env.approvals()
        await env.decide(approval.id, True)
        seen = await env.client.attach(sent.invocation_id, type=dict[str, Any])
        assert seen["approved"]


async def test_a_cancellation_reaches_the_handler_and_not_the_reminders(told: Told) -> None:
    waiting = hf.Service("Waiting")
    release = asyncio.Event()

    @waiting.handler
    async def go(ctx: hf.Context) -> str:
        approval = ctx.approve("Later", remind_url=told.url, remind_every=3600)
        await release.wait()  # nothing durable, where a cancellation could be raised
        try:
            await approval
        except hf.TerminalError as error:
            return f"cancelled {error.code}"
        return "decided"

    async with environment(hf.App(waiting), autojump=False) as env:
        sent = await env.client.send(go)
        while not (journal := await env.journal(sent.invocation_id))[2:]:
            await asyncio.sleep(0)
        assert "Sleep" in str(journal[2]["kind"])
        await env.client.cancel(sent.invocation_id)
        while len(await env.journal(sent.invocation_id)) < 4:
            await asyncio.sleep(0)
        release.set()
        assert await env.client.attach(sent.invocation_id, type=str) == "cancelled 409"


# -- arguments -------------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"title": ""}, "HF0590"),
    ({"title": "two\nlines"}, "HF0590"),
    ({"title": "x" * 501}, "HF0590"),
    ({"assignee": ["a", ""]}, "HF0590"),
    ({"on_timeout": "explode"}, "HF0590"),
    ({"editable": {"a": int}}, "HF0590"),
    ({"payload": b"bytes"}, "HF0590"),
    ({"notify_url": "file:///etc/passwd"}, "HF0590"),
    ({"remind_url": "http://127.0.0.1/"}, "HF0590"),
    ({"remind_url": "http://127.0.0.1/", "remind_every": 0}, "HF0590"),
    ({"form": {"type": "nonsense"}}, "HF0591"),
    ({"form": {"$ref": "http://127.0.0.1:1/schema"}}, "HF0591"),
    ({"form": bytes}, "HF0591"),
    ({"arguments": {"a": 1}, "editable": {"a": {"type": 3}}}, "HF0591"),
    ({"timeout": -1}, "HF0507"),
    ({"payload": object()}, "HF0505"),
]


async def test_wrong_arguments_are_refused_before_anything_is_recorded() -> None:
    wrong = hf.Service("Wrong")

    @wrong.handler
    async def go(ctx: hf.Context) -> list[str]:
        codes: list[str] = []
        for options, _ in WRONG:
            try:
                ctx.approve(**({"title": "ok"} | options))
            except hf.UsageError as error:
                codes.append(error.code)
            else:
                codes.append("none")
        return codes

    async with environment(hf.App(wrong)) as env:
        sent = await env.client.send(go)
        codes = await env.client.attach(sent.invocation_id, type=list[str])
        assert codes == [code for _, code in WRONG]
        assert not [e for e in await env.journal(sent.invocation_id) if "Ask" in str(e["kind"])]


# -- behind servers that have no inbox -------------------------------------------------------------


def crash_once(at: int) -> Any:
    left = [at]
    return lambda length: length in left and not left.remove(length)


@pytest.mark.parametrize("is_request_response", [False, True])
async def test_without_an_inbox_it_is_an_awakeable(
    is_request_response: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    server = FakeServer(
        WireApp(desk), "Desk/pay", {"timeout": 3600}, is_request_response=is_request_response
    )
    server.is_patient = True
    while not ids:
        await server.settle()
    assert not any(isinstance(entry, AskApproval) for entry in server.journal)
    assert ids[0] in caplog.text
    assert links == [None] * len(links)
    content = b'{"approved":true,"value":{"amount":3},"by":"ann"}'
    server.record(Signal(Value(content), index=parse_awakeable_id(ids[0])[1]))
    seen = await server.run()
    assert seen | {"value": None} == {
        "approved": True,
        "value": None,
        "arguments": {"to": "ada", "euros": 120},
        "by": "ann",
        "comment": "",
        "timed_out": False,
    }
    assert seen["value"] == {"amount": 3.0, "note": ""}


async def test_without_an_inbox_the_deadline_is_ours_wherever_it_crashes() -> None:
    for crash_at in range(1, 8):
        server = FakeServer(
            WireApp(desk),
            "Desk/plain",
            {"timeout": 3600, "on_timeout": "approve"},
            crash=crash_once(crash_at),
        )
        seen = await server.run()
        assert not server.errors
        assert (seen["approved"], seen["timed_out"]) == (True, True)


async def test_without_an_inbox_a_rejection_is_a_decision() -> None:
    server = FakeServer(WireApp(desk), "Desk/pay", {})
    while not ids:
        await server.settle()
    index = parse_awakeable_id(ids[0])[1]
    server.record(Signal(Failure(500, "too much"), index=index))
    seen = await server.run()
    assert (seen["approved"], seen["comment"]) == (False, "too much")
