"""Workflows: their definition, and what their handlers may do."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

import holdfast as hf
from holdfast.domain.message import Completion, Failure, GetPromise, PeekPromise, Value
from holdfast.domain.target import DAY_MS, HandlerKind, ServiceKind

from .fake_server import FakeServer, value
from .loops import both_loops


def signup(**options: Any) -> hf.Workflow:
    workflow = hf.Workflow("Signup", **options)

    @workflow.main
    async def run(ctx: hf.Context, email: str) -> str:
        """Sign somebody up."""
        return f"{email} {await ctx.promise('confirmed', str).value()}"

    @workflow.handler(private=True)
    async def confirm(ctx: hf.Context, code: str) -> None:
        await ctx.promise("confirmed", str).resolve(code)

    return workflow


def test_manifest() -> None:
    (service,) = hf.App(signup(workflow_retention=timedelta(hours=2))).manifest.services
    assert (service.name, service.kind) == ("Signup", ServiceKind.WORKFLOW)
    run, confirm = service.handlers
    assert (run.name, run.kind, run.documentation) == (
        "run",
        HandlerKind.WORKFLOW,
        "Sign somebody up.",
    )
    assert (run.workflow_retention_ms, confirm.workflow_retention_ms) == (7_200_000, DAY_MS)
    assert (confirm.kind, confirm.is_private) == (HandlerKind.SHARED, True)


def test_there_is_exactly_one_main_handler() -> None:
    async def first(ctx: hf.Context) -> None: ...

    async def second(ctx: hf.Context) -> None: ...

    workflow = hf.Workflow("Signup")
    workflow.handler(second)
    with pytest.raises(hf.UsageError, match="main handler; Signup has none") as caught:
        hf.App(workflow)
    assert caught.value.code == "HF0510"
    workflow = hf.Workflow("Signup")
    workflow.main(first)
    workflow.main(second)
    with pytest.raises(hf.UsageError, match="Signup has 2: first, second"):
        hf.App(workflow)


def test_the_retention_belongs_to_the_workflow() -> None:
    async def run(ctx: hf.Context) -> None: ...

    for make in (hf.Service, hf.VirtualObject):
        with pytest.raises(hf.UsageError, match="workflow_retention"):
            make("S", workflow_retention=1)  # type: ignore[call-arg]
    with pytest.raises(hf.UsageError, match="workflow_retention"):
        hf.Workflow("W").main(workflow_retention=1)(run)  # type: ignore[call-overload]


@both_loops
async def test_a_promise_suspends_who_waits_for_it() -> None:
    app = hf.App(signup())
    server = FakeServer(app, "Signup/run", "a@b", key="ann")
    await server.settle()
    server.close_input()
    await asyncio.sleep(0)
    assert server.suspensions[0].completions == (1,)
    server.resolve_promise("confirmed", value("yes"))
    assert await server.run() == "a@b yes"
    assert server.commands() == ["promise:confirmed#0", "output#0"]


@both_loops
async def test_promises_with_combinators() -> None:
    workflow = hf.Workflow("W")

    @workflow.main
    async def run(ctx: hf.Context) -> list[Any]:
        promise = ctx.promise("p", list[int])
        assert promise.name == "p"
        seen: list[Any] = [await promise.peek()]
        try:
            async with asyncio.timeout(60):
                await promise.value()
        except TimeoutError:
            seen.append("timeout")
        both, _ = await asyncio.gather(promise.value(), promise.resolve([1, 2]))
        seen += [both, await promise.peek(), await ctx.promise("p").value()]
        with pytest.raises(hf.TerminalError) as caught:
            await promise.reject("too late")
        seen.append(caught.value.code)
        other = ctx.promise("q")
        await other.reject("no", code=418)
        for read in (other.value, other.peek):
            with pytest.raises(hf.TerminalError, match="no") as caught:
                await read()
            seen.append(caught.value.code)
        none = ctx.promise("none")
        await none.resolve()
        return [*seen, await none.value()]

    expected = [None, "timeout", [1, 2], [1, 2], [1, 2], 409, 418, 418, None]
    for crash in (None, lambda n: True, lambda n: n % 3 == 0):
        server = FakeServer(hf.App(workflow), "W/run", key="k", crash=crash)
        assert await server.run() == expected
        assert "timeout" not in server.commands()
        assert server.commands()[0] == "peek_promise:p#0"
    assert {"resolve_promise:p#0", "reject_promise:p#0"} < set(server.commands())


@both_loops
async def test_a_program_that_changed() -> None:
    app = hf.App(signup())
    for found in (GetPromise("other", 1, "", "promise:other#0"),
                  PeekPromise("confirmed", 1, "", "peek_promise:confirmed#0")):  # fmt: skip
        journal = [FakeServer(app, "Signup/run", "a").journal[0], found]
        server = FakeServer(app, "Signup/run", key="ann", journal=journal)
        server.is_retrying = False
        with pytest.raises(AssertionError, match="attempted: promise 'confirmed' at"):
            await server.run()
        kind = "promise 'other'" if isinstance(found, GetPromise) else "peek_promise 'confirmed'"
        assert f"recorded:  {kind}" in server.errors[0].message


@both_loops
async def test_only_workflows_have_promises() -> None:
    service = hf.VirtualObject("Cart")

    @service.shared
    async def h(ctx: hf.Context) -> None:
        ctx.promise("p")

    server = FakeServer(hf.App(service), "Cart/h", key="k")
    server.is_retrying = False
    with pytest.raises(AssertionError, match=r"ctx\.promise needs a Workflow: Cart/h .*HF0511"):
        await server.run()


@both_loops
async def test_what_other_handlers_may_not_do() -> None:
    workflow = signup()

    @workflow.handler
    async def write(ctx: hf.Context) -> None:
        ctx.set("n", 1)

    @workflow.handler
    async def nameless(ctx: hf.Context) -> None:
        ctx.promise("")

    for handler, message in (
        ("write", "(?s)Signup/write is shared.*main handler of the workflow"),
        ("nameless", "needs a name.*HF0511"),
    ):
        server = FakeServer(hf.App(workflow), f"Signup/{handler}", key="k")
        server.is_retrying = False
        with pytest.raises(AssertionError, match=message):
            await server.run()


@both_loops
async def test_a_value_without_json_is_refused_where_it_is_given() -> None:
    workflow = hf.Workflow("W")

    @workflow.main
    async def run(ctx: hf.Context) -> str:
        with pytest.raises(hf.SerdeError, match="The value of promise 'p' cannot be recorded"):
            ctx.promise("p", int).resolve(object())  # type: ignore[arg-type]
        await ctx.promise("p", int).resolve(3)
        return await ctx.run("read", str, ctx.key + repr(ctx.promise("p")))

    server = FakeServer(hf.App(workflow), "W/run", key="k")
    assert await server.run() == "k<promise 'p'>"
    completion = server.journal[2]
    assert isinstance(completion, Completion)
    assert not isinstance(completion.result, Failure | Value)
