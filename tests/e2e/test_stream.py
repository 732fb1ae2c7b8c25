"""A reader of a stream while everything else is killed: nothing is missing, nothing comes twice."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.client import Chunk, InvocationStream, Replaced

from .harness import APPS, Holdfast

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs POSIX signals")

CHAPTERS = 6


class Listener:
    """Puts together what a stream says."""

    def __init__(self) -> None:
        self.shown: dict[str, tuple[int, str]] = {}
        self.replaced = 0

    def hear(self, event: Chunk | Replaced) -> None:
        if isinstance(event, Replaced):
            self.shown = {i: s for i, s in self.shown.items() if s[0] != event.lane}
            self.replaced += 1
            return
        assert event.id not in self.shown, f"{event} came twice"
        self.shown[event.id] = (event.lane, event.value)
        self.check()

    def check(self) -> None:
        """Whatever is shown at a time is of one run of each step."""
        runs: dict[str, str] = {}
        for word in self.words():
            name, _, rest = word.partition(".")
            run = rest.partition(".")[0]
            assert not rest or runs.setdefault(name, run) == run, f"{word} beside {runs}"

    def words(self) -> list[str]:
        return "".join(text for _, text in self.shown.values()).split()


async def listen(stream: InvocationStream[Any], listener: Listener) -> list[Any]:
    async for event in stream:
        listener.hear(event)
    result: list[Any] = await stream.result()
    return result


def judge(listener: Listener, told: list[Any]) -> None:
    """What is shown at the end is what the handler knows."""
    words = listener.words()
    assert [w for w in words if "." not in w] == [f"h{n}" for n in range(CHAPTERS)]
    for name, run, count in told:
        expected = [f"{name}.{run}.{number}" for number in range(count)]
        assert [w for w in words if w.startswith(f"{name}.")] == expected


@pytest.mark.parametrize("victim", ["worker", "server"])
async def test_a_reader_outlives_kills(victim: str, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    with Holdfast(tmp_path, f"{APPS / 'tale.py'}:app") as holdfast:
        await asyncio.to_thread(holdfast.up)
        async with hf.Client(f"http://{holdfast.ingress}") as client:
            listener = Listener()
            stream = client.stream("Tale/tell", CHAPTERS, idempotency_key="once")
            listening = asyncio.ensure_future(listen(stream, listener))
            for kill in range(4):
                floor = len(listener.shown) + dice.randrange(3, 25)
                async with asyncio.timeout(60):
                    while len(listener.shown) < floor and not listening.done():
                        await asyncio.sleep(0.002)
                if listening.done():
                    break
                print(f"kill {kill} of {victim} at {len(listener.shown)}")
                await asyncio.to_thread(holdfast.current(victim).kill)
                await asyncio.to_thread(getattr(holdfast, victim))
                if victim == "server":
                    await asyncio.to_thread(holdfast.current("server").until, "Ready")
            async with asyncio.timeout(60):
                told = await listening
            judge(listener, told)
            # One who comes last sees the same, without what was lost meanwhile.
            late = Listener()
            assert await listen(client.read_stream(stream.invocation_id), late) == told
            assert late.shown == listener.shown
            assert late.replaced == 0
            # And one who goes on from anywhere gets the rest.
            places = list(listener.shown)
            place = dice.choice(places)
            rest = Listener()
            await listen(client.read_stream(stream.invocation_id, last_id=place), rest)
            assert list(rest.shown) == places[places.index(place) + 1 :]
