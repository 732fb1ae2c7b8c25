"""Steps whose outcome is unknown: the body begins once, unless a policy says more."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

import holdfast as hf
from holdfast.domain.ids import parse_awakeable_id
from holdfast.domain.message import Completion, Entry, Failure, Run, Signal, Value
from holdfast.sdk.unknown import OnUnknown

from .fake_server import BEGIN_MS, FakeServer, value
from .loops import both_loops
from .test_attempt import server_of
from .test_foreign import WireApp

KEY = "run:charge#0"


class Till:
    """Somebody else's system: what was charged, and what was asked about it."""

    def __init__(self) -> None:
        self.charged: list[int] = []
        self.keys: list[str] = []
        self.verified: list[tuple[str, int]] = []

    async def charge(self, amount: int) -> str:
        self.charged.append(amount)
        self.keys.append(hf.idempotency_key())
        return f"receipt {amount}"

    async def verify(self, key: str, amount: int) -> hf.Happened[str] | hf.NotHappened:
        self.verified.append((key, amount))
        return hf.Happened(f"receipt {amount}") if key in self.keys else hf.NotHappened()

    def handler(self, on_unknown: OnUnknown, **options: Any) -> Callable[[hf.Context], Any]:
        async def handler(ctx: hf.Context) -> str:
            return await ctx.run("charge", self.charge, 5, on_unknown=on_unknown, **options)

        return handler


def answer_questions(server: FakeServer, *answers: Any) -> None:
    """Let a person answer each question that is in the journal, once."""
    numbers = {e.completion_id for e in server.runs() if e.name.startswith("ask: ")}
    asks = [e for e in server.journal if isinstance(e, Completion) and e.completion_id in numbers]
    for ask, answer in zip(asks, answers, strict=False):
        assert isinstance(ask.result, Value)
        awakeable = msgspec.json.decode(ask.result.content)["awakeable_id"]
        _, index = parse_awakeable_id(awakeable)
        if not any(isinstance(e, Signal) and e.index == index for e in server.journal):
            server.signal(index, answer if isinstance(answer, Failure) else value(answer))


async def finish(server: FakeServer, *answers: Any) -> Any:
    while server.outcome is None:
        if server.attempt is None or not server._is_suspended():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await server.finish()
        answer_questions(server, *answers)
    return server.outcome


# -- without a loss --------------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("policy", ["fail", "ask", "verify"])
async def test_the_body_begins_when_its_begin_is_recorded(policy: Any) -> None:
    till = Till()
    server = server_of(till.handler(till.verify if policy == "verify" else policy))
    seen: list[list[Entry]] = []
    charge = till.charge

    async def looking(amount: int) -> str:
        seen.append(list(server.journal))
        return await charge(amount)

    till.charge = looking  # type: ignore[method-assign]
    assert await server.run() == "receipt 5"
    assert server.commands() == [KEY, f"{KEY}/begin#0", "output#0"]
    begin = next(e for e in seen[0] if isinstance(e, Run) and e.key == f"{KEY}/begin#0")
    assert any(
        isinstance(e, Completion) and e.completion_id == begin.completion_id for e in seen[0]
    )
    assert till.charged == [5]
    assert not till.verified
    # Replays do nothing, wherever they are cut behind the result.
    result = next(
        i
        for i, e in enumerate(server.journal)
        if isinstance(e, Completion) and e.completion_id == 1
    )
    for length in range(result + 1, len(server.journal) + 1):
        replay = server_of(till.handler("fail"), journal=server.journal[:length])
        assert await replay.run() == "receipt 5"
    assert till.charged == [5]


@both_loops
@pytest.mark.parametrize("is_request_response", [False, True])
@pytest.mark.parametrize("retry", [None, hf.RetryPolicy(max_attempts=5)])
async def test_an_exception_is_no_unknown_outcome(
    is_request_response: bool, retry: hf.RetryPolicy | None
) -> None:
    till = Till()
    count = itertools.count()

    async def flaky(amount: int) -> str:
        till.keys.append(hf.idempotency_key())
        if next(count) < 3:
            raise ConnectionError("busy")
        return "done"

    till.charge = flaky  # type: ignore[method-assign]
    handler = till.handler("fail", retry=retry)
    server = server_of(handler, is_request_response=is_request_response)
    assert await server.run() == "done"
    assert len(server.errors) == 3
    assert len(till.keys) == 4
    assert len(set(till.keys)) == 1


@both_loops
async def test_retries_are_used_up() -> None:
    async def broken(amount: int) -> str:
        raise ConnectionError("busy")

    till = Till()
    till.charge = broken  # type: ignore[method-assign]
    server = server_of(till.handler("fail", retry=hf.RetryPolicy(max_attempts=3)))
    assert await server.finish() == Failure(500, "ConnectionError: busy")
    assert len(server.errors) == 2


@both_loops
async def test_a_step_that_waits_to_begin_while_another_fails_has_not_begun() -> None:
    till = Till()
    count = itertools.count()

    async def flaky() -> None:
        if next(count) == 0:
            raise ConnectionError("busy")

    async def handler(ctx: hf.Context) -> str:
        other = ctx.run("other", flaky)
        await asyncio.gather(other, charge := ctx.run("charge", till.charge, 5, on_unknown="fail"))
        return charge.result()

    server = server_of(handler)
    assert await server.run() == "receipt 5"
    assert len(server.errors) == 1
    assert till.charged == [5]


# -- with losses -----------------------------------------------------------------------------------


def once_at(lengths: set[int]) -> Callable[[int], bool]:
    """Crash when the journal has one of these lengths, once each."""

    def crash(now: int) -> bool:
        is_now = now in lengths
        lengths.discard(now)
        return is_now

    return crash


# Input, Run, begin, its result: from then on nobody knows, until the result is recorded.
LENGTHS = [(2, False), (3, False), (4, True), (5, False), (6, False)]


@both_loops
@pytest.mark.parametrize(("length", "is_unknown"), LENGTHS)
async def test_fail_wherever_it_crashes(length: int, is_unknown: bool) -> None:
    till = Till()
    server = server_of(till.handler("fail"), crash=once_at({length}))
    outcome = await server.finish()
    assert len(till.charged) <= 1
    if is_unknown:
        assert isinstance(outcome, Failure)
        assert outcome.metadata == {"error_code": "HF0580"}
        assert "'charge'" in outcome.message
        again = server_of(till.handler("fail"), journal=server.journal)
        assert await again.finish() == outcome
    else:
        assert outcome == value("receipt 5")
        assert till.charged == [5]


@both_loops
@pytest.mark.parametrize("in_body", [False, True])
async def test_a_lost_body(in_body: bool) -> None:
    """The body runs when its attempt is lost, or has run and its result is on its way."""
    till = Till()
    begun = asyncio.Event()
    charge = till.charge

    async def slow(amount: int) -> str:
        receipt = await charge(amount)
        begun.set()
        if len(till.charged) == 1 and in_body:
            await asyncio.Event().wait()
        return receipt

    till.charge = slow  # type: ignore[method-assign]
    server = server_of(till.handler(till.verify))
    task = asyncio.ensure_future(server.finish())
    await begun.wait()
    server.crash()
    assert await task == value("receipt 5")
    assert till.charged == [5]
    assert till.verified == [(till.keys[0], 5)]


@both_loops
@pytest.mark.parametrize(("length", "is_unknown"), LENGTHS)
async def test_verify_wherever_it_crashes(length: int, is_unknown: bool) -> None:
    till = Till()
    server = server_of(till.handler(till.verify), crash=once_at({length}))
    assert await server.run() == "receipt 5"
    assert till.charged == [5]
    assert len(till.verified) == is_unknown


@both_loops
async def test_verify_is_asked_again_when_it_raises_and_after_each_loss() -> None:
    till = Till()
    count = itertools.count()

    def verify(key: str, amount: int) -> hf.NotHappened:
        till.verified.append((key, amount))
        if next(count) == 0:
            raise ConnectionError("busy")
        return hf.NotHappened()

    server = server_of(till.handler(verify), crash=once_at({4}))
    assert await server.run() == "receipt 5"
    assert len(till.verified) == 2
    assert till.charged == [5]
    assert [error.related_command_name for error in server.errors] == ["charge"]


@both_loops
async def test_verify_says_what_it_is_to_return() -> None:
    till = Till()
    server = server_of(till.handler(lambda key, amount: True), crash=once_at({4}))
    server.is_retrying = False
    with pytest.raises(AssertionError, match="HF0583"):
        await server.finish()
    assert till.charged == []


@both_loops
async def test_verify_may_end_it() -> None:
    def verify(key: str, amount: int) -> hf.NotHappened:
        raise hf.TerminalError("the account is closed", code=410)

    server = server_of(Till().handler(verify), crash=once_at({4}))
    assert await server.finish() == Failure(410, "the account is closed")


@both_loops
@pytest.mark.parametrize("is_request_response", [False, True])
@pytest.mark.parametrize(
    ("answers", "outcome", "charges"),
    [
        ([{"happened": True, "value": "by hand"}], value("by hand"), 0),
        ([{"happened": False}], value("receipt 5"), 1),
        ([Failure(500, "never mind")], Failure(500, "never mind"), 0),
        ([{"happened": True, "value": 7}, {"happened": False}], value("receipt 5"), 1),
        ([None, "yes", {"happened": True, "value": "x"}], value("x"), 0),
    ],
)
async def test_ask(
    answers: list[Any], outcome: Any, charges: int, is_request_response: bool
) -> None:
    till = Till()
    server = server_of(
        till.handler("ask"), crash=once_at({4}), is_request_response=is_request_response
    )
    if is_request_response:
        server.journal += _lost_journal(till)
    assert await finish(server, *answers) == outcome
    assert len(till.charged) == charges
    asks = [e.name for e in server.runs() if "/ask#" in e.key]
    assert asks == ["ask: charge"] * len(answers)


def _lost_journal(till: Till) -> list[Entry]:
    run, begin = Run(1, "charge", KEY), Run(2, "begin: charge", f"{KEY}/begin#0")
    return [run, begin, Completion(0x8011, 2, Value(b"{}"), BEGIN_MS)]


@both_loops
async def test_a_question_can_be_given_up() -> None:
    till = Till()

    async def handler(ctx: hf.Context) -> str:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(60):
                return await ctx.run("charge", till.charge, 5, on_unknown="ask")
        return await ctx.run("note", lambda: "nobody answered")

    server = server_of(handler, crash=once_at({5}))
    assert await server.run() == "nobody answered"
    for length in range(6, len(server.journal) + 1):
        replay = server_of(handler, journal=server.journal[:length])
        assert await replay.run() == "nobody answered"
    assert till.charged == []


@both_loops
@pytest.mark.parametrize("policy", ["fail", "ask", "verify"])
async def test_a_cancelled_step_is_no_lost_one(policy: Any) -> None:
    till = Till()

    async def for_ever(amount: int) -> str:
        till.charged.append(amount)
        await asyncio.Event().wait()
        return ""

    till.charge = for_ever  # type: ignore[method-assign]
    on_unknown = till.verify if policy == "verify" else policy

    async def handler(ctx: hf.Context) -> str:
        try:
            await ctx.run("charge", till.charge, 5, on_unknown=on_unknown)
        except hf.TerminalError as error:
            text = error.message
            return await ctx.run("note", lambda: text)
        return "?"

    server = server_of(handler)
    await server.settle()
    assert till.charged == [5]
    server.cancel()
    assert await server.run() == "cancelled"
    for length in range(5, len(server.journal) + 1):
        if any(isinstance(e, Signal) for e in server.journal[:length]):
            replay = server_of(handler, journal=server.journal[:length])
            assert await replay.run() == "cancelled"
    assert till.charged == [5]
    assert not till.verified


# -- property: at most once ------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("is_request_response", [False, True])
async def test_no_body_begins_twice_wherever_and_however_often_it_crashes(
    is_request_response: bool,
) -> None:
    lengths = [2, 3, 4, 5, 6, 7, 8]
    for first, second in itertools.product(lengths, lengths):
        till = Till()
        server = server_of(
            two_charges(till),
            crash=once_at({first, second}),
            is_request_response=is_request_response,
        )
        for amount, receipt in zip((1, 2), await server.run(), strict=True):
            assert till.charged.count(amount) <= 1
            assert receipt in ("unknown", f"receipt {amount}")
            if receipt != "unknown":
                assert till.charged.count(amount) == 1


def two_charges(till: Till) -> Callable[[hf.Context], Any]:
    async def handler(ctx: hf.Context) -> list[str]:
        async def one(amount: int) -> str:
            try:
                return await ctx.run("charge", till.charge, amount, on_unknown="fail")
            except hf.TerminalError:
                return "unknown"

        return await asyncio.gather(one(1), one(2))

    return handler


# -- elsewhere -------------------------------------------------------------------------------------


def foreign(handler: Any, **options: Any) -> FakeServer:
    service = hf.Service("S")
    service.handler(name="h")(handler)
    return FakeServer(WireApp(service), "S/h", **options)


@both_loops
@pytest.mark.parametrize(("length", "is_unknown"), LENGTHS)
async def test_behind_a_server_that_knows_nothing_of_ours(length: int, is_unknown: bool) -> None:
    till = Till()
    server = foreign(till.handler("fail"), crash=once_at({length}))
    outcome = await server.finish()
    assert len(till.charged) <= 1
    assert isinstance(outcome, Failure) == is_unknown


@both_loops
@pytest.mark.parametrize("policy", ["fail", "ask"])
async def test_without_any_answer_of_the_server_it_is_refused(policy: Any) -> None:
    till = Till()
    server = foreign(till.handler(policy), is_request_response=True)
    server.is_retrying = False
    with pytest.raises(AssertionError, match="HF0582"):
        await server.finish()
    assert till.charged == []


@both_loops
async def test_without_any_answer_of_the_server_one_can_find_out() -> None:
    till = Till()
    server = foreign(till.handler(till.verify), is_request_response=True)
    assert await server.run() == "receipt 5"
    assert till.charged == [5]
    assert len(till.verified) == 1


@both_loops
async def test_a_server_that_counts_from_the_last_command_does_not_retry_for_ever() -> None:
    async def broken(amount: int) -> str:
        raise ConnectionError("busy")

    till = Till()
    till.charge = broken  # type: ignore[method-assign]
    server = foreign(till.handler("fail", retry=hf.RetryPolicy(max_attempts=3)))
    counting = server.app.open

    def opened(start: Any, entries: Any, stream: Any) -> Any:
        # One failure since the last command: the record that it failed.
        return counting(replace(start, retry_count=min(1, len(server.errors))), entries, stream)

    server.app.open = opened  # type: ignore[method-assign]
    assert await server.finish() == Failure(500, "ConnectionError: busy")
    assert len(server.errors) == 2


@both_loops
async def test_the_policy_may_change_under_a_running_invocation() -> None:
    till = Till()
    for before, after in itertools.product(["retry", "fail", "ask"], repeat=2):
        server = server_of(till.handler(before))
        await server.run()
        other = server_of(till.handler(after), journal=server.journal[:-1])
        assert await other.run() == "receipt 5"


# -- the key ---------------------------------------------------------------------------------------


@both_loops
async def test_keys_differ_for_each_step_and_not_for_each_attempt() -> None:
    keys: dict[str, set[str]] = {}

    async def note(where: str) -> None:
        keys.setdefault(where, set()).add(hf.idempotency_key())

    def note_in_thread(where: str) -> None:
        keys.setdefault(where, set()).add(hf.idempotency_key())

    async def handler(ctx: hf.Context) -> None:
        await ctx.run("a", note, "first")
        await ctx.run("a", note_in_thread, "second")
        await ctx.run("b", note, "b")
        with ctx.scope("tool"):
            await ctx.run("a", note, "tool")

    for _ in range(2):
        await server_of(handler, crash=lambda n: True).run()
    assert all(len(found) == 1 for found in keys.values())
    assert len(set.union(*keys.values())) == 4
    key = keys["first"].copy().pop()
    assert len(key) <= 64
    assert key.replace("_", "").isalnum()
    assert key.isascii()


@both_loops
async def test_no_key_outside_of_a_step() -> None:
    async def handler(ctx: hf.Context) -> None:
        with pytest.raises(hf.UsageError, match="HF0581"):
            hf.idempotency_key()

    await server_of(handler).run()
    with pytest.raises(hf.UsageError, match="HF0581"):
        hf.idempotency_key()


@both_loops
async def test_what_is_no_policy() -> None:
    async def handler(ctx: hf.Context) -> None:
        with pytest.raises(hf.UsageError, match="on_unknown must be"):
            ctx.run("charge", len, "", on_unknown="verify")  # type: ignore[call-overload]

    await server_of(handler).run()
