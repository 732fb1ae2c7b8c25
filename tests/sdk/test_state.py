"""State as handlers see it: what an attempt knows, what expires, what does not fit."""

from __future__ import annotations

from typing import Any

import pytest

import holdfast as hf
from holdfast.admin import state_endpoint
from holdfast.domain.message import GetEagerState, GetLazyState, SetState, Start, Value
from holdfast.engine import limit
from holdfast.sdk import verb_state
from holdfast.sdk.local_state import LocalState
from holdfast.server import invoker

from .fake_server import FakeServer


def start_of(state: dict[str, bytes], *, is_partial: bool = False, **expiries: int) -> Start:
    return Start(
        "inv_1", "Box", "hold", "k", 0, state, is_partial, 0, 0, 1, state_expiries=expiries
    )


def test_local_state_knows_what_has_expired() -> None:
    state = LocalState(start_of({"a": b"1", "b": b"2"}, a=100))
    assert (state.get("a", 99), state.get("a", 100), state.get("b", 10**15)) == (b"1", None, b"2")
    assert (state.names(99), state.names(100)) == (("a", "b"), ("b",))
    state.put("a", b"3")
    assert state.get("a", 10**15) == b"3"
    state.put("c", b"", 5)
    assert (state.get("c", 4), state.get("c", 5)) == (b"", None)
    state.remove("b")
    assert state.names(5) == ("a",)


def test_partial_state_is_complete_once_it_is_cleared() -> None:
    state = LocalState(start_of({"a": b"1"}, is_partial=True))
    assert (state.is_known("a"), state.is_known("b")) == (True, False)
    state.clear()
    assert state.is_known("b")
    assert state.get("a", 0) is None


box = hf.VirtualObject("Box")


@box.handler
async def expire(ctx: hf.Context) -> list[Any]:
    ctx.set("a", "short", ttl=0.02)
    ctx.set("b", "long", ttl=3600)
    ctx.set("c", "was short", ttl=0.02)
    ctx.set("c", "stays")
    before = [await ctx.get(name) for name in "abc"]
    await ctx.sleep(0.03)
    return [before, [await ctx.get(name) for name in "abc"], await ctx.keys()]


@box.shared
async def names(ctx: hf.Context) -> list[str]:
    return await ctx.keys()


@box.handler
async def fill(ctx: hf.Context, count: int) -> None:
    for number in range(count):
        ctx.set(f"n{number}", bytes(1000), type=bytes)


@box.shared
async def sizes(ctx: hf.Context, count: int) -> list[int]:
    values = [await ctx.get(f"n{number}", type=bytes) for number in range(count + 1)]
    return [-1 if value is None else len(value) for value in values]


@box.handler
async def keep(ctx: hf.Context) -> list[Any]:
    odd = ["", "ä/ö#[0]", "\U0001f600", "a\x00b", "n" * 1024]
    for name in odd:
        ctx.set(name, name.encode(), type=bytes)
    ctx.set("none", None)
    ctx.set("big", bytes(range(256)) * 4096 * 4, type=bytes)
    await ctx.sleep(0.001)
    seen = [await ctx.get(name, type=bytes) == name.encode() for name in odd]
    big = await ctx.get("big", type=bytes)
    return [all(seen), await ctx.get("none"), len(big or b""), set(odd) <= set(await ctx.keys())]


lazy = hf.VirtualObject("Lazy", lazy_state=True)


@lazy.handler
async def touch(ctx: hf.Context) -> list[Any]:
    before = [await ctx.get("a", type=bytes), await ctx.keys()]
    ctx.set("a", b"", type=bytes)
    return [before[0] is None, before[1], await ctx.get("a", type=bytes) == b"", await ctx.keys()]


app = hf.App(box, lazy)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_entries_that_expire(store: str, tmp_path: Any) -> None:
    url = "memory:" if store == "memory" else f"sqlite:{tmp_path / 'a.db'}"
    async with hf.embedded(app, store=url) as client:
        assert await client.call(expire, key="k") == [
            ["short", "long", "stays"],
            [None, "long", "stays"],
            ["b", "c"],
        ]
        assert await client.call(names, key="k") == ["b", "c"]


async def test_replay_reads_what_was_read() -> None:
    times = iter((5_000, 5_000, 9_000, 9_000, 9_000, 9_000))

    @box.handler
    async def twice(ctx: hf.Context) -> list[Any]:
        first = await ctx.get("a", type=int)
        await ctx.sleep(1)
        return [first, await ctx.get("a", type=int)]

    server = FakeServer(
        hf.App(box, clock=lambda: next(times, 9_000)), "Box/twice", key="k", state={"a": b"1"},
        crash=lambda length: length == 3,
    )  # fmt: skip
    assert await server.run() == [1, 1]
    reads = [entry for entry in server.journal if isinstance(entry, GetEagerState)]
    assert [read.result for read in reads] == [Value(b"1"), Value(b"1")]


async def test_state_beyond_the_limit_is_read_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(invoker, "EAGER_STATE_BYTES_MAX", 5_000)
    async with hf.embedded(app, store="memory:") as client:
        await client.call(fill, 12, key="k")
        assert await client.call(sizes, 12, key="k") == [1000] * 12 + [-1]
        assert len(await client.call(names, key="k")) == 12


async def test_odd_names_and_large_values() -> None:
    async with hf.embedded(app, store="memory:") as client:
        assert await client.call(keep, key="k") == [True, None, 4 * 1024 * 1024, True]


async def test_lazy_state() -> None:
    async with hf.embedded(app, store="memory:") as client:
        assert await client.call(touch, key="k") == [True, [], True, ["a"]]


async def test_a_lazy_attempt_gets_no_state() -> None:
    server = FakeServer(hf.App(lazy), "Lazy/touch", key="k", is_state_partial=True)
    assert await server.run() == [True, [], True, ["a"]]
    assert any(isinstance(entry, GetLazyState) for entry in server.journal)


@pytest.mark.parametrize(
    "deed",
    [
        lambda ctx: ctx.set("a", bytes(16 * 1024 * 1024 + 1), type=bytes),
        lambda ctx: ctx.set("a", 1, ttl=0),
        lambda ctx: ctx.set("n" * 1025, 1),
        lambda ctx: ctx.set("\ud800", 1),
        lambda ctx: ctx.get("\ud800"),
        lambda ctx: ctx.clear(5),
    ],
    ids=["value", "ttl", "name", "surrogate", "read", "type"],
)
async def test_what_state_cannot_hold(deed: Any) -> None:
    caught: list[str] = []

    async def handler(ctx: hf.Context) -> None:
        with pytest.raises(hf.UsageError) as info:
            deed(ctx)
        caught.append(info.value.code)

    own = hf.VirtualObject("Own")
    own.handler(handler)
    server = FakeServer(hf.App(own), "Own/handler", key="k")
    await server.run()
    assert caught == ["HF0540"]
    assert not any(isinstance(entry, SetState) for entry in server.journal)


def test_all_rooms_have_the_same_limits() -> None:
    assert verb_state.VALUE_BYTES_MAX == limit.STATE_VALUE_BYTES_MAX
    assert verb_state.NAME_BYTES_MAX == state_endpoint._NAME_BYTES_MAX
