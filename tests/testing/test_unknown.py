"""Crash places of steps with `on_unknown`, against the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

import holdfast as hf
from holdfast.sdk.unknown import OnUnknown
from holdfast.testing import environment

charged: list[str] = []


def charge(text: str) -> str:
    charged.append(text)
    return f"receipt {text}"


def find_out(key: str, text: str) -> hf.Happened[str] | hf.NotHappened:
    assert key == hf.idempotency_key()
    return hf.Happened(f"found {text}") if charged else hf.NotHappened()


def app_of(on_unknown: OnUnknown) -> hf.App:
    till = hf.Service("Till")

    @till.handler
    async def pay(ctx: hf.Context, text: str) -> str:
        try:
            return await ctx.run("charge", charge, text, on_unknown=on_unknown)
        except hf.TerminalError as error:
            return error.metadata["error_code"]

    return hf.App(till)


@pytest.fixture(autouse=True)
def fresh() -> None:
    charged.clear()


PLACES = {
    "before:charge": "receipt a",
    "before:begin": "receipt a",
    "during:begin": "receipt a",
    "after:begin": "unknown",
    "during:charge": "lost",
    "after:charge": "receipt a",
    "before:output": "receipt a",
}


@pytest.mark.parametrize("store", ["memory:", "sqlite:"])
@pytest.mark.parametrize("always_replay", [False, True])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("policy", ["fail", "verify"])
async def test_each_place(
    policy: str, place: str, always_replay: bool, store: str, tmp_path: Path
) -> None:
    on_unknown: Any = find_out if policy == "verify" else policy
    where = store if store == "memory:" else f"sqlite:{tmp_path / 'test.db'}"
    async with environment(
        app_of(on_unknown), store=where, always_replay=always_replay, strict=True
    ) as env:
        env.crash_at(place)
        found = await env.client.call("Till/pay", "a")
    expected = PLACES[place]
    if expected == "lost":
        expected = "HF0580" if policy == "fail" else "found a"
    if expected == "unknown":
        expected = "receipt a" if policy == "verify" else "HF0580"
    assert found == expected
    assert len(charged) == (found != "HF0580" or place == "during:charge")


@pytest.mark.parametrize("always_replay", [False, True])
async def test_a_person_is_asked(always_replay: bool) -> None:
    async with environment(app_of("ask"), always_replay=always_replay) as env:
        env.crash_at("during:charge")
        sent = await env.client.send("Till/pay", "a")
        await env.settle()
        entries = await env.journal(sent.invocation_id)
        (ask,) = [e for e in entries if e.get("name") == "ask: charge"]
        told = next(
            e for e in entries if "payload" in e and e.get("completion_id") == ask["completion_id"]
        )
        payload = msgspec.json.decode(msgspec.json.encode(told["payload"]))["value"]
        assert await env.steps(sent.invocation_id) == ["charge"]
        await env.client.resolve(payload["awakeable_id"], hf.Happened("by hand"))
        assert await env.client.attach(sent.invocation_id) == "by hand"
        assert charged == ["a"]


async def test_a_recording_replays() -> None:
    app = app_of("fail")
    async with environment(app) as env:
        env.crash_at("during:charge")
        sent = await env.client.send("Till/pay", "a")
        assert await env.client.attach(sent.invocation_id) == "HF0580"
        report = await hf.testing.replay(await env.recording(sent.invocation_id), app)
    assert report.is_ok, report
    assert charged == ["a"]
