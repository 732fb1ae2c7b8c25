"""Ids of invocations by what makes them unique, and what can be asked with them."""

from __future__ import annotations

import pytest

import holdfast as hf
from holdfast.domain.identity import idempotent_id, workflow_id
from holdfast.domain.message import AttachInvocation, Failure, GetInvocationOutput
from holdfast.domain.target import Target

from .fake_server import ID, value
from .loops import both_loops
from .test_attempt import server_of

service = hf.Service("Bank")
account = hf.VirtualObject("Account")
signup = hf.Workflow("Signup")


@service.handler
async def charge(ctx: hf.Context, amount: int) -> dict[str, int]:
    return {"amount": amount}


@account.handler
async def deposit(ctx: hf.Context, amount: int) -> int:
    return amount


@signup.main
async def run(ctx: hf.Context) -> str:
    return "done"


@signup.handler
async def confirm(ctx: hf.Context) -> None: ...


def test_ids_are_those_of_the_server() -> None:
    by_key = idempotent_id(Target("Bank", "charge"), "k")
    assert hf.invocation(charge, idempotency_key="k") == by_key
    assert hf.invocation("Bank/charge", idempotency_key="k") == by_key
    of_object = idempotent_id(Target("Account", "deposit", "ada"), "k")
    assert hf.invocation(deposit, key="ada", idempotency_key="k") == of_object
    assert hf.invocation("Account/deposit", key="ada", idempotency_key="k") == of_object
    of_run = workflow_id("Signup", "ada")
    assert hf.invocation(run, key="ada") == of_run
    assert hf.invocation("Signup/run", key="ada") == of_run
    of_shared = idempotent_id(Target("Signup", "confirm", "ada"), "k")
    assert hf.invocation(confirm, key="ada", idempotency_key="k") == of_shared


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: hf.invocation(charge), "HF0521"),
        (lambda: hf.invocation("Bank/charge"), "HF0521"),
        (lambda: hf.invocation(deposit, key="ada"), "HF0521"),
        (lambda: hf.invocation(run, key="ada", idempotency_key="k"), "HF0521"),
        (lambda: hf.invocation(run), "HF0507"),
        (lambda: hf.invocation(charge, key="ada", idempotency_key="k"), "HF0507"),
        (lambda: hf.invocation("charge", idempotency_key="k"), "HF0507"),
    ],
)
def test_what_names_no_single_invocation_is_refused(make: object, code: str) -> None:
    with pytest.raises(hf.UsageError) as caught:
        make()  # type: ignore[operator]
    assert caught.value.code == code


@both_loops
async def test_attach_and_output_read_the_result_as_the_handler_says() -> None:
    async def handler(ctx: hf.Context) -> list[object]:
        known = hf.invocation(deposit, key="ada", idempotency_key="k")
        waiting = await ctx.output(known)
        default = await ctx.output(ID, type=int, default=-1)
        attached = await ctx.attach(ID, type=str)
        return [waiting, default, attached]

    server = server_of(handler)
    assert await server.run() == [None, -1, "attached"]
    asked = [e for e in server.journal if isinstance(e, GetInvocationOutput)]
    known = idempotent_id(Target("Account", "deposit", "ada"), "k")
    assert [e.target_invocation_id for e in asked] == [known, ID]
    assert type(asked[0].target_invocation_id) is str
    assert any(isinstance(e, AttachInvocation) for e in server.journal)
    for length in range(1, len(server.journal) + 1):
        replay = server_of(handler, journal=server.journal[:length])
        assert await replay.run() == [None, -1, "attached"]


@both_loops
async def test_an_output_that_is_there_is_returned_or_raised() -> None:
    async def handler(ctx: hf.Context) -> object:
        known = hf.invocation(charge, idempotency_key="k")
        try:
            return await ctx.output(known)
        except hf.TerminalError as error:
            return f"{error.code} {error.message}"

    server = server_of(handler)
    server.output = value({"amount": 3})
    assert await server.run() == {"amount": 3}
    server = server_of(handler)
    server.output = Failure(404, "not found")
    assert await server.run() == "404 not found"
