"""Random streams of handlers: valid messages in any order, with bytes changed, cut and repeated.

Whatever a handler says, its attempt fails or goes on, the server logs no error of its own, and all
other invocations go on, also when the server starts anew on what was stored.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from random import Random

import pytest
from wire_harness import OK, Mode, Wire, wired

from holdfast.domain.identity import workflow_id
from holdfast.domain.message import (
    AttachInvocation,
    AwaitTree,
    Call,
    ClearAllState,
    ClearState,
    Combinator,
    CompleteAwakeable,
    CompletePromise,
    End,
    Error,
    Failure,
    FromHandler,
    GetEagerState,
    GetEagerStateKeys,
    GetInvocationOutput,
    GetLazyState,
    GetLazyStateKeys,
    GetPromise,
    Input,
    NamedTarget,
    OneWayCall,
    Output,
    PeekPromise,
    ProposeRunCompletion,
    Run,
    SendSignal,
    SetState,
    Sleep,
    Suspension,
    Value,
    Void,
)
from holdfast.engine.row import Status
from holdfast.protocol.restate.frame import HEADER_SIZE
from holdfast.storage.base import InvocationFilter

STREAMS = int(os.environ.get("HOLDFAST_FUZZ_STREAMS", "120"))
STREAMS_NIGHTLY = 1_500
TARGETS = ("S/run", "Box/k/put", "Box/k/look", "Flow/k/look")
NUMBERS = (0, 1, 1, 2, 2, 3, 17, 2**31, 2**32 - 1)


class Author:
    """Makes streams; the same ones for the same seed."""

    def __init__(self, wire: Wire, random: Random) -> None:
        self._wire = wire
        self._random = random

    def stream(self) -> bytes:
        """Return what one attempt says."""
        random = self._random
        frames = [self._frame(self._message()) for _ in range(random.randint(1, 7))]
        if random.random() < 0.5:
            frames.append(self._frame(self._ending()))
        for _ in range(random.choice((0, 0, 1, 1, 2, 4))):
            self._change(frames)
        return b"".join(frames)

    def _number(self) -> int:
        return self._random.choice(NUMBERS)

    def _frame(self, message: FromHandler) -> bytes:
        is_asked = self._random.random() < 0.2
        return self._wire.codec.encode(message, is_ack_requested=is_asked)

    def _message(self) -> FromHandler:
        random, number = self._random, self._number()
        value = Value(random.randbytes(random.choice((0, 1, 20))))
        result = random.choice((value, Failure(number, "no", {"a": "b"})))
        key = random.choice((None, "k", ""))
        flow = workflow_id("Flow", "k")
        return random.choice(
            (
                Run(number, name="r"),
                Run(number),
                ProposeRunCompletion(number, result),
                ProposeRunCompletion(number, result),
                Sleep(random.choice((0, 1, 2**62)), number),
                Output(result),
                Input(value),
                GetLazyState("a", number),
                GetLazyStateKeys(number),
                SetState("a", value),
                ClearState("a"),
                ClearAllState(),
                GetEagerState("a", random.choice((Void(), value))),
                GetEagerStateKeys(("a",)),
                GetPromise("p", number),
                PeekPromise("p", number),
                CompletePromise("p", result, number),
                Call("S", "run", b"1", key, (("a", "b"),), key, self._number(), number),
                OneWayCall("Box", "look", b"1", key, (), None, number, self._number()),
                SendSignal(flow, random.choice((Void(), result)), number),
                SendSignal(flow, result, None, "go"),
                AttachInvocation(flow, number, named=NamedTarget("Flow", "k")),
                GetInvocationOutput(flow, number),
                CompleteAwakeable("sign_1" + "A" * 38, result),
            )
        )

    def _ending(self) -> FromHandler:
        random = self._random
        if self._wire.mode.version >= 7 and random.random() < 0.5:
            return Suspension(tree=self._tree(3))
        numbers = tuple(self._number() for _ in range(random.randint(0, 3)))
        return random.choice(
            (
                End(),
                Suspension(numbers, numbers, random.choice(((), ("go",)))),
                Error(random.choice((500, 570, 0)), "no", behavior=random.choice((0, 0, 1, 2))),
                Error(500, "no", next_retry_delay_ms=random.choice((0, 1, 2**62))),
            )
        )

    def _tree(self, depth: int) -> AwaitTree:
        random = self._random
        return AwaitTree(
            random.choice(list(Combinator)),
            tuple(self._number() for _ in range(random.randint(0, 2))),
            tuple(self._number() for _ in range(random.randint(0, 2))),
            random.choice(((), ("go",))),
            tuple(self._tree(depth - 1) for _ in range(random.randint(0, 2) if depth else 0)),
        )

    def _change(self, frames: list[bytes]) -> None:
        """Change something about one of the frames."""
        random = self._random
        at = random.randrange(len(frames))
        data = bytearray(frames[at])
        place = random.randrange(len(data)) if data else 0
        match random.randrange(7):
            case 0 if data:
                data[place] = random.randrange(256)
            case 1 if data:
                data[place] ^= 1 << random.randrange(8)
            case 2:
                del data[place:]
            case 3:
                data[place:place] = random.randbytes(random.randint(1, 9))
            case 4 if len(data) > HEADER_SIZE:
                # The payload is another one, of the same size.
                data[HEADER_SIZE:] = random.randbytes(len(data) - HEADER_SIZE)
            case 5:
                data.extend(bytes(data))
            case _:
                data[0:2] = random.choice(
                    (b"\x00\x06", b"\x80\x11", b"\xfb\xff", b"\xfc\x01", b"\x04\x0f")
                )
        frames[at] = bytes(data)


async def play(wire: Wire, random: Random, count: int) -> None:
    """Answer attempts with random streams."""
    author = Author(wire, random)
    for _ in range(count):
        invocation_id, attempt = await wire.begun(random.choice(TARGETS))
        attempt.send(author.stream())
        attempt.exchange.end()
        # Stored, or refused: then the next one begins.
        async with asyncio.timeout(10):
            while True:
                row = await wire.host.invocation(invocation_id)
                assert row is not None
                if row.status is not Status.RUNNING or row.attempt > 1:
                    break
                await asyncio.sleep(0)
        if row.target.service == "Box" and row.status is not Status.COMPLETED:
            # The next one must not wait for its key.
            await wire.host.kill(invocation_id)


async def end_all(wire: Wire) -> int:
    """Kill what is open, and look at everything; return how much was open."""
    rows = await wire.host.invocations(InvocationFilter(), None, 10_000)
    still_open = [row.id for row in rows if row.status is not Status.COMPLETED]
    for invocation_id in still_open:
        await wire.host.kill(invocation_id)
    for row in rows:
        ended = await wire.row(row.id, Status.COMPLETED)
        assert len(await wire.host.journal(row.id)) == ended.journal_length
    return len(still_open)


@pytest.mark.parametrize(
    ("seed", "mode", "count"),
    [
        (1, Mode(7), STREAMS),
        (2, Mode(6, is_bidirectional=False), STREAMS),
        (3, Mode(5, is_bidirectional=False, is_http_2=False), STREAMS),
        *(
            pytest.param(
                seed,
                Mode(5 + seed % 3, bool(seed % 2)),
                STREAMS_NIGHTLY,
                marks=[pytest.mark.nightly],
            )
            for seed in range(100, 112)
        ),
    ],
)
async def test_random_streams(
    seed: int, mode: Mode, count: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    random = Random(seed)
    async with wired(mode, tmp_path) as wire:
        bystander, standing = await wire.begun()
        standing.send(standing.encode(Run(1, name="mine")))
        await wire.stored(bystander, 2)
        await play(wire, random, count)
        await wire.check_that_it_lives()
        standing.finish()
        assert await wire.outcome(bystander) == OK.result
        await wire.restart()
        await wire.check_that_it_lives()
        assert await end_all(wire)
        await wire.restart()
        await wire.check_that_it_lives()
    errors = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert errors == []
