"""A whole server against an endpoint that is played by hand, well and badly behaved."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from port_harness import CODEC, OK, replayed
from scripted_endpoint import Endpoint as ScriptedEndpoint
from scripted_endpoint import Exchange, listening

from holdfast.domain.message import (
    KIND_RUN,
    Completion,
    End,
    Error,
    FromHandler,
    Output,
    ProposeRunCompletion,
    Run,
    SetState,
    Sleep,
    Suspension,
    Value,
)
from holdfast.domain.target import Target
from holdfast.engine.row import InvocationRow, Status
from holdfast.protocol.restate.frame import Frame, encode_frame
from holdfast.server.clock import SystemClock
from holdfast.server.handle import Request
from holdfast.server.host import Host
from holdfast.server.registration import Registration
from holdfast.storage.memory import MemoryStore
from holdfast.transport.http.dialer import HttpDialer

RETRY = {"retryPolicyInitialInterval": 1, "retryPolicyMaxInterval": 1}
MEDIA_TYPE = "application/vnd.restate.endpointmanifest.v4+json"


def manifest(**options: Any) -> bytes:
    services = [
        {"name": "S", "ty": "SERVICE", "handlers": [{"name": "run"}], **RETRY, **options},
        {
            "name": "Box",
            "ty": "VIRTUAL_OBJECT",
            "handlers": [{"name": "put"}, {"name": "look", "ty": "SHARED"}],
            **RETRY,
        },
    ]
    described = {"protocolMode": "BIDI_STREAM", "minProtocolVersion": 5, "maxProtocolVersion": 6}
    return json.dumps({**described, "services": services}).encode()


class Server:
    """A host, and the endpoint that serves its invocations."""

    def __init__(self, host: Host, scripted: ScriptedEndpoint) -> None:
        self.host = host
        self.scripted = scripted

    async def send(self, target: str = "S/run") -> str:
        service, *key, handler = target.split("/")
        found = self.host.resolve(service, handler)
        request = Request(Target(service, handler, key[0] if key else None), found, b"1")
        return (await self.host.send(request)).invocation_id

    async def attempt(self) -> Exchange:
        """Wait for the next attempt, and begin to answer it."""
        exchange = await self.scripted.exchange()
        exchange.respond(200, OK)
        await exchange.until(lambda: is_replayed(exchange))
        return exchange

    async def row(self, invocation_id: str, status: Status) -> InvocationRow:
        async with asyncio.timeout(5):
            while True:
                row = await self.host.invocation(invocation_id)
                if row is not None and row.status is status:
                    return row
                await asyncio.sleep(0.002)

    async def check_that_it_lives(self) -> None:
        """Run another invocation to its end."""
        invocation_id = await self.send()
        while True:
            exchange = await self.attempt()
            if exchange.fields["x-restate-invocation-id"] == invocation_id:
                break
            exchange.reset(8)
        say(exchange, Output(Value(b"2")), End())
        assert (await self.host.attach(invocation_id)).outcome == Value(b"2")


def is_replayed(exchange: Exchange) -> bool:
    """Whether the endpoint has the whole journal."""
    start, entries = replayed(exchange)
    return start is not None and len(entries) >= start.known_entries


def say(exchange: Exchange, *messages: FromHandler) -> None:
    exchange.send(b"".join(CODEC.encode(message) for message in messages))
    if isinstance(messages[-1], Suspension | Error | End):
        exchange.end()


@contextlib.asynccontextmanager
async def serving(store: MemoryStore | None = None, **options: Any) -> AsyncIterator[Server]:
    async with listening() as scripted:

        def answer(exchange: Exchange) -> None:
            if exchange.fields[":path"] == "/discover":
                exchange.respond(200, [("content-type", MEDIA_TYPE)])
                exchange.send(manifest(**options))
                exchange.end()
            else:
                scripted.put(exchange)

        scripted.on_exchange = answer
        host = Host(store or MemoryStore(1), SystemClock(), dialer=HttpDialer())
        await host.start()
        try:
            await host.register_endpoint(Registration(scripted.uri, {}, {}))
            yield Server(host, scripted)
        finally:
            await host.stop()


async def test_an_invocation_from_begin_to_end() -> None:
    async with serving() as server:
        invocation_id = await server.send()
        exchange = await server.attempt()
        say(exchange, Run(1, name="r1"), ProposeRunCompletion(1, Value(b"one")))
        await exchange.until(lambda: len(replayed(exchange)[1]) == 2)
        completion = replayed(exchange)[1][1]
        assert isinstance(completion, Completion)
        assert (completion.kind, completion.result) == (KIND_RUN, Value(b"one"))
        say(exchange, Output(Value(b"2")), End())
        assert (await server.host.attach(invocation_id)).outcome == Value(b"2")
        row = await server.row(invocation_id, Status.COMPLETED)
        assert row.deployment_id == server.host.deployments()[0].id


async def test_replay_after_a_crash_behind_a_step() -> None:
    """Run and its completion come back in stored order."""
    async with serving() as server:
        await server.send()
        exchange = await server.attempt()
        say(exchange, Run(1, name="r1"), Run(2), ProposeRunCompletion(1, Value(b"one")))
        await exchange.until(lambda: len(replayed(exchange)[1]) == 2)
        exchange.reset(2)
        again = await server.attempt()
        await again.until(lambda: len(replayed(again)[1]) == 4)
        start, entries = replayed(again)
        assert start is not None
        assert start.known_entries == 4
        assert entries[1:] == [Run(1, name="r1"), Run(2), Completion(KIND_RUN, 1, Value(b"one"))]


async def test_of_two_outputs_the_last_one_counts() -> None:
    async with serving() as server:
        invocation_id = await server.send()
        say(await server.attempt(), Output(Value(b"1")), Output(Value(b"2")), End())
        assert (await server.host.attach(invocation_id)).outcome == Value(b"2")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (CODEC.encode(End()), "HF2013"),
        (CODEC.encode(Suspension()), "HF2010"),
        (CODEC.encode(ProposeRunCompletion(9, Value())), "HF2011"),
        (CODEC.encode(SetState("a", Value(b"1"))), "HF2016"),
        (encode_frame(Frame(0x0500, b"")), "HF1322"),
        (encode_frame(Frame(0x0401, b"")), "HF1320"),
        (encode_frame(Frame(0x0400, b"")), "HF1320"),
        (encode_frame(Frame(0x0005, b"\x08\x01")), "HF1320"),
        (encode_frame(Frame(0x8000, b"")), "HF1322"),
        (b"\x04\x11\x00\x00\xff\xff\xff\xff", "HF1321"),
    ],
    ids=[
        "end without output",
        "empty suspension",
        "result of no step",
        "state in a plain service",
        "unknown type",
        "output without result",
        "input without value",
        "proposal without result",
        "notification",
        "over the size limit",
    ],
)
async def test_bad_input_fails_the_attempt_and_the_server_lives(said: bytes, code: str) -> None:
    store = MemoryStore(1)
    async with serving(store) as server:
        invocation_id = await server.send()
        for _ in range(2):
            # The first loss is tried again at once, so look at the failure after the second.
            exchange = await server.attempt()
            exchange.send(said)
            await exchange.until(lambda e=exchange: e.reset_code is not None or e.has_ended)
        last = await server.attempt()
        row = await server.row(invocation_id, Status.RUNNING)
        assert row.last_failure is not None
        assert f"[{code}]" in row.last_failure.message
        say(last, Output(Value(b"1")), End())
        assert (await server.host.attach(invocation_id)).outcome == Value(b"1")
        await server.check_that_it_lives()


async def test_bad_input_is_forgotten_with_a_restart() -> None:
    store = MemoryStore(1)
    async with serving(store) as server:
        invocation_id = await server.send()
        exchange = await server.attempt()
        exchange.send(CODEC.encode(Run(1)) + encode_frame(Frame(0xFC01, b"")))
        await exchange.until(lambda: exchange.reset_code is not None)
    async with serving(store) as server:
        # What it did before stays with the address of before, which is gone.
        await server.row(invocation_id, Status.RUNNING)
        await server.check_that_it_lives()


async def test_retry_delay_and_count_of_a_failing_attempt() -> None:
    """A delay chosen by the handler; the count in Start goes 0, 1, 2, and 0 after a command."""
    async with serving() as server:
        await server.send()
        for count in range(3):
            exchange = await server.attempt()
            start, _ = replayed(exchange)
            assert start is not None
            assert start.retry_count == count
            say(exchange, Error(500, "no", next_retry_delay_ms=1))
        exchange = await server.attempt()
        say(exchange, Run(1), Error(500, "no"))
        start, _ = replayed(await server.attempt())
        assert start is not None
        assert start.retry_count == 1


async def test_suspension_on_a_stored_completion_starts_the_next_attempt_at_once() -> None:
    async with serving() as server:
        await server.send()
        exchange = await server.attempt()
        say(exchange, Run(1), ProposeRunCompletion(1, Value(b"1")), Suspension((1,), (1,)))
        again = await server.attempt()
        await again.until(lambda: len(replayed(again)[1]) == 3)


async def test_suspension_on_several_resumes_on_any() -> None:
    async with serving() as server:
        invocation_id = await server.send()
        exchange = await server.attempt()
        soon = server.host.now_ms() + 50
        say(exchange, Sleep(soon, 1), Sleep(soon + 3_600_000, 2), Suspension((1, 2), (1,)))
        await server.row(invocation_id, Status.SUSPENDED)
        again = await server.attempt()
        assert len(replayed(again)[1]) == 4


async def test_a_quiet_attempt_is_half_closed_suspends_and_resumes() -> None:
    """Inactivity timeout: the request ends, the handler suspends, the timer resumes it."""
    async with serving(inactivityTimeout=50) as server:
        invocation_id = await server.send()
        exchange = await server.attempt()
        say(exchange, Sleep(server.host.now_ms() + 1000, 1))
        await exchange.until(lambda: exchange.has_ended)
        say(exchange, Suspension((1,), (1,)))
        await server.row(invocation_id, Status.SUSPENDED)
        say(await server.attempt(), Output(Value(b"1")), End())
        assert (await server.host.attach(invocation_id)).outcome == Value(b"1")


async def test_an_attempt_that_ignores_the_half_close_is_reset_and_repeated() -> None:
    """Abort timeout: reset and retry."""
    async with serving(inactivityTimeout=50, abortTimeout=50) as server:
        await server.send()
        exchange = await server.attempt()
        say(exchange, Sleep(server.host.now_ms() + 3_600_000, 1))
        await exchange.until(lambda: exchange.reset_code is not None)
        assert exchange.has_ended
        await server.attempt()


async def test_objects_get_their_state_and_hold_their_lock() -> None:
    async with serving() as server:
        await server.send("Box/k/put")
        waiting = await server.send("Box/k/put")
        exchange = await server.attempt()
        assert exchange.fields["x-restate-service-key"] == "k"
        say(exchange, SetState("a", Value(b"1")), SetState("empty", Value()))
        while len(await server.host.state("Box", "k")) < 2:
            await asyncio.sleep(0.002)
        await server.send("Box/k/look")
        looking = await server.attempt()
        start, _ = replayed(looking)
        assert start is not None
        assert (start.state, start.is_state_partial) == ({"a": b"1", "empty": b""}, False)
        await server.row(waiting, Status.PENDING)
        say(exchange, Output(Value(b"1")), End())
        following = await server.attempt()
        assert following.fields["x-restate-invocation-id"] == waiting


async def test_a_killed_invocation_resets_its_exchange() -> None:
    async with serving() as server:
        invocation_id = await server.send()
        exchange = await server.attempt()
        await server.host.kill(invocation_id)
        await exchange.until(lambda: exchange.reset_code is not None)
        assert exchange.reset_code == 8


async def test_stopping_the_server_resets_what_is_open() -> None:
    async with serving() as server:
        await server.send()
        exchange = await server.attempt()
        await server.host.stop()
        await exchange.until(lambda: exchange.reset_code is not None)


async def test_a_hundred_attempts_at_once() -> None:
    async with serving() as server:
        ids = [await server.send() for _ in range(150)]
        exchanges = [await server.attempt() for _ in ids]
        assert len({id(exchange.connection) for exchange in exchanges}) == 2
        for exchange in exchanges:
            say(exchange, Output(Value(b"1")), End())
        for invocation_id in ids:
            assert (await server.host.attach(invocation_id)).outcome == Value(b"1")
