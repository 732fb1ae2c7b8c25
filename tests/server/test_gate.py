"""`concurrency=`: how many attempts of a handler, or of a service, are in flight."""

from __future__ import annotations

import pytest

from holdfast.domain.message import Sleep, Suspension
from holdfast.domain.target import (
    HandlerKind,
    HandlerManifest,
    Manifest,
    ServiceKind,
    ServiceManifest,
    Target,
)
from holdfast.server import invoker as invoker_module
from holdfast.server.handle import Request
from holdfast.server.host import Host
from tests.server.harness import CountingStore, ScriptedPort, hosting, until


def gated(*services: tuple[str, dict[str, tuple[int | None, bool]]]) -> ScriptedPort:
    """Services, with (concurrency, is it the service's) by handler."""
    port = ScriptedPort()
    port.manifest = Manifest(
        services=tuple(
            ServiceManifest(
                name=name,
                kind=ServiceKind.SERVICE,
                handlers=tuple(
                    HandlerManifest(
                        name=handler,
                        kind=HandlerKind.PLAIN,
                        concurrency=limit,
                        is_concurrency_shared=is_shared,
                    )
                    for handler, (limit, is_shared) in handlers.items()
                ),
            )
            for name, handlers in services
        )
    )
    return port


async def send(host: Host, target: str) -> str:
    service, _, handler = target.partition("/")
    request = Request(Target(service, handler), host.resolve(service, handler), b"1")
    return (await host.send(request)).invocation_id


def opened(port: ScriptedPort) -> list[str]:
    return [f"{a.start.service}/{a.start.handler}" for a in port.attempts]


async def test_no_more_than_the_limit_run_and_the_others_come_in_order() -> None:
    port = gated(("S", {"slow": (2, False)}))
    async with hosting(CountingStore(), port) as host:
        ids = [await send(host, "S/slow") for _ in range(5)]
        await until(lambda: len(port.attempts) == 2)
        assert host.health()["attempts_waiting"] == 3
        for done in range(5):
            await until(lambda n=done: len(port.attempts) > n)
            assert host.health()["attempts_open"] <= 2
            port.attempts[done].finish()
        await until(lambda: host.health()["attempts_open"] == 0)
        assert [a.start.invocation_id for a in port.attempts] == ids


async def test_those_that_wait_are_in_nobodys_way() -> None:
    port = gated(("S", {"slow": (1, False), "quick": (None, False)}))
    async with hosting(CountingStore(), port) as host:
        for _ in range(3):
            await send(host, "S/slow")
        await send(host, "S/quick")
        await until(lambda: "S/quick" in opened(port))
        assert opened(port) == ["S/slow", "S/quick"]


async def test_the_limit_of_a_service_is_for_all_handlers_without_their_own() -> None:
    port = gated(("S", {"a": (2, True), "b": (2, True), "own": (1, False)}))
    async with hosting(CountingStore(), port) as host:
        for handler in ("a", "b", "a", "own", "own"):
            await send(host, f"S/{handler}")
        await until(lambda: len(port.attempts) == 3)
        assert sorted(opened(port)) == ["S/a", "S/b", "S/own"]
        assert host.health()["attempts_waiting"] == 2
        port.attempts[opened(port).index("S/b")].finish()
        await until(lambda: len(port.attempts) == 4)
        assert opened(port)[-1] == "S/a"


async def test_a_suspended_one_gives_its_place_back() -> None:
    port = gated(("S", {"slow": (1, False)}))
    async with hosting(CountingStore(), port) as host:
        await send(host, "S/slow")
        await send(host, "S/slow")
        await until(lambda: len(port.attempts) == 1)
        port.attempts[0].say(Sleep(host.now_ms() + 60_000, 1), Suspension((1,), (1,)))
        port.attempts[0].stream.on_closed(None)
        await until(lambda: len(port.attempts) == 2)


async def test_one_that_only_waits_is_asked_to_suspend_when_others_want_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(invoker_module, "_CROWDED_S", 0.01)
    port = gated(("S", {"slow": (1, False), "free": (None, False)}))
    async with hosting(CountingStore(), port) as host:
        for target in ("S/slow", "S/free", "S/slow"):
            await send(host, target)
        await until(lambda: len(port.attempts) == 2)
        await until(lambda: port.attempts[opened(port).index("S/slow")].is_input_closed)
        assert not port.attempts[opened(port).index("S/free")].is_input_closed


async def test_killed_ones_leave_and_lost_ones_too() -> None:
    port = gated(("S", {"slow": (1, False)}))
    async with hosting(CountingStore(), port) as host:
        first, second, third = [await send(host, "S/slow") for _ in range(3)]
        await until(lambda: len(port.attempts) == 1)
        await host.kill(second)
        await host.kill(first)
        await until(lambda: len(port.attempts) == 2)
        assert port.attempts[1].start.invocation_id == third
        port.attempts[1].stream.on_closed("lost")
        await until(lambda: len(port.attempts) == 3)
        assert host.health()["attempts_open"] == 1


async def test_the_longest_wait_comes_first_when_the_server_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(invoker_module, "ATTEMPTS_MAX", 1)
    port = gated(("S", {"a": (5, False), "b": (5, False)}))
    async with hosting(CountingStore(), port) as host:
        order = ["S/a", "S/b", "S/a", "S/b", "S/a"]
        for target in order:
            await send(host, target)
        for done in range(5):
            await until(lambda n=done: len(port.attempts) > n)
            port.attempts[done].finish()
        assert opened(port) == order
