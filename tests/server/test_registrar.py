from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from holdfast.domain.errors import ConflictError, NotFoundError, UsageError
from holdfast.domain.ids import DEPLOYMENT_PREFIX, deployment_id_of
from holdfast.domain.message import Error, Run, Suspension
from holdfast.domain.target import (
    HandlerKind,
    HandlerManifest,
    Manifest,
    ServiceKind,
    Target,
)
from holdfast.engine.row import Status
from holdfast.server.handle import Request
from holdfast.server.host import Host
from holdfast.server.registrar import Registrar
from holdfast.server.registration import Change, Registration
from holdfast.storage.base import InvocationFilter
from holdfast.storage.memory import MemoryStore
from holdfast.transport.base import EndpointError, Refusal
from tests.server.fake_dialer import A, B, FakeDialer, manifest_of
from tests.server.harness import ScriptedPort, hosting, until


def registration(uri: str = A, **options: Any) -> Registration:
    return Registration(uri, options.pop("headers", {}), options.pop("metadata", {}), **options)


@pytest.fixture
def dialer() -> FakeDialer:
    return FakeDialer()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(partition_count=1)


@pytest.fixture
async def host(store: MemoryStore, dialer: FakeDialer) -> AsyncIterator[Host]:
    async with hosting(store, dialer=dialer) as host:
        yield host


async def send(host: Host, service: str = "S") -> str:
    request = Request(Target(service, "run"), host.resolve(service, "run"), b"1")
    return (await host.send(request)).invocation_id


async def status_of(host: Host, invocation_id: str) -> Status:
    row = await host.invocation(invocation_id)
    assert row is not None
    return row.status


# -- registration ----------------------------------------------------------------------------------


async def test_a_new_endpoint_is_stored_and_gets_the_attempts_of_its_services(
    host: Host, store: MemoryStore, dialer: FakeDialer
) -> None:
    deployment, is_new = await host.register_endpoint(
        registration(headers={"X-Tenant": "t"}, metadata={"team": "shop"})
    )
    assert is_new
    assert deployment.id.startswith(DEPLOYMENT_PREFIX)
    assert len(deployment.id) == 26
    assert deployment.revisions == {"S": 1}
    assert deployment.endpoint is not None
    assert deployment.endpoint.metadata == {"team": "shop"}
    assert await store.deployments() == [deployment]
    assert dialer.asked == [(A, {"x-tenant": "t"}, None)]
    await send(host)
    await until(lambda: dialer.ports[A].attempts)


async def test_a_known_address_is_not_asked_again(host: Host, dialer: FakeDialer) -> None:
    first, _ = await host.register_endpoint(registration("http://A:1"))
    again, is_new = await host.register_endpoint(registration())
    assert (again, is_new) == (first, False)
    assert len(dialer.asked) == 1


async def test_force_asks_again_keeps_the_id_and_raises_the_revision(
    host: Host, dialer: FakeDialer
) -> None:
    first, _ = await host.register_endpoint(registration())
    dialer.served[A] = manifest_of("S", "T")
    again, is_new = await host.register_endpoint(registration(is_forced=True))
    assert not is_new
    assert again.id == first.id
    assert again.revisions == {"S": 2, "T": 1}
    assert again.created_at_ms > first.created_at_ms
    assert [s.name for s in host.services()] == ["S", "T"]
    assert dialer.ports[A].manifest == dialer.served[A]


async def test_a_dry_run_stores_nothing(host: Host, store: MemoryStore, dialer: FakeDialer) -> None:
    deployment, is_new = await host.register_endpoint(registration(is_dry_run=True))
    assert is_new
    assert deployment.revisions == {"S": 1}
    assert await store.deployments() == []
    assert host.deployments() == []
    assert dialer.ports == {}


@pytest.mark.parametrize("way", [{}, {"is_breaking": True}, {"is_forced": True}])
async def test_a_service_changes_its_kind_only_when_that_is_asked_for(
    host: Host, dialer: FakeDialer, way: dict[str, bool]
) -> None:
    await host.register_endpoint(registration())
    dialer.served[B] = manifest_of("S", kind=ServiceKind.VIRTUAL_OBJECT)
    if way:
        await host.register_endpoint(registration(B, **way))
        assert host.services()[0].kind is ServiceKind.VIRTUAL_OBJECT
        return
    with pytest.raises(UsageError) as caught:
        await host.register_endpoint(registration(B))
    assert caught.value.code == "HF1301"
    assert host.services()[0].kind is ServiceKind.SERVICE


async def test_two_registrations_at_once_make_one_deployment(host: Host) -> None:
    one, two = await asyncio.gather(
        host.register_endpoint(registration()), host.register_endpoint(registration())
    )
    assert one.deployment.id == two.deployment.id
    assert len(host.deployments()) == 1


async def test_a_server_that_dials_nothing_refuses() -> None:
    async with hosting(MemoryStore(1)) as host:
        with pytest.raises(UsageError) as caught:
            await host.register_endpoint(registration())
    assert caught.value.code == "HF1286"


async def test_bad_addresses_and_headers_are_refused_before_anything_is_asked(
    host: Host, dialer: FakeDialer
) -> None:
    for bad, code in (
        (registration("ftp://a"), "HF1281"),
        (registration(headers={"host": "x"}), "HF1282"),
    ):
        with pytest.raises(UsageError) as caught:
            await host.register_endpoint(bad)
        assert caught.value.code == code
    assert dialer.asked == []


# -- which deployment runs what --------------------------------------------------------------------


async def test_new_invocations_go_to_the_latest_and_open_ones_stay(
    host: Host, dialer: FakeDialer
) -> None:
    """Deployment update while invocations are open."""
    old, _ = await host.register_endpoint(registration(A))
    pinned = await send(host)
    await until(lambda: dialer.ports[A].attempts)
    dialer.ports[A].attempts[0].say(Run(1))
    row = await host.invocation(pinned)
    while row is None or row.deployment_id is None:
        await asyncio.sleep(0.001)
        row = await host.invocation(pinned)
    new, _ = await host.register_endpoint(registration(B))
    assert new.revisions == {"S": 2}
    fresh = await send(host)
    await until(lambda: dialer.ports[B].attempts)
    assert dialer.ports[B].attempts[0].start.invocation_id == fresh
    # The pinned one fails, and comes back to where it began.
    dialer.ports[A].attempts[0].stream.on_closed("lost")
    await until(lambda: len(dialer.ports[A].attempts) == 2)
    assert await host.open_invocation_count(old.id) == 1
    assert await host.open_invocation_count(new.id) == 0


async def test_an_invocation_without_an_entry_moves_to_the_new_deployment(
    host: Host, dialer: FakeDialer
) -> None:
    """A crash before the first entry, then a new deployment."""
    await host.register_endpoint(registration(A))
    await send(host)
    await until(lambda: dialer.ports[A].attempts)
    await host.register_endpoint(registration(B))
    dialer.ports[A].attempts[0].stream.on_closed("lost")
    await until(lambda: dialer.ports[B].attempts)


async def test_workers_and_endpoints_take_services_from_each_other(
    host: Host, dialer: FakeDialer
) -> None:
    worker = ScriptedPort()
    await host.attach_worker(worker)
    dialer.served[A] = manifest_of("Echo")
    await host.register_endpoint(registration(A))
    await send(host, "Echo")
    await until(lambda: dialer.ports[A].attempts)
    assert worker.attempts == []
    assert [d.revision for d in host.deployments()] == [1, 2]


async def test_a_restart_goes_on_with_what_was_registered(
    store: MemoryStore, dialer: FakeDialer
) -> None:
    async with hosting(store, dialer=dialer) as host:
        await host.register_endpoint(registration(A))
        await host.register_endpoint(registration(B))
        invocation_id = await send(host)
        await until(lambda: dialer.ports[B].attempts)
    again = FakeDialer()
    async with hosting(store, dialer=again):
        await until(lambda: again.ports[B].attempts)
        assert again.ports[B].attempts[0].start.invocation_id == invocation_id
        assert again.asked == []
        assert again.ports[A].attempts == []
    assert again.ports[A].is_closed


async def test_a_handler_that_a_new_deployment_no_longer_has_is_unknown(
    host: Host, dialer: FakeDialer
) -> None:
    await host.register_endpoint(registration(A))
    service = dialer.served[A].services[0]
    other = HandlerManifest(name="other", kind=HandlerKind.PLAIN)
    dialer.served[B] = Manifest(services=(replace(service, handlers=(other,)),))
    await host.register_endpoint(registration(B))
    host.resolve("S", "other")
    with pytest.raises(NotFoundError) as caught:
        host.resolve("S", "run")
    assert caught.value.code == "HF1002"


# -- attempts that an endpoint refuses -------------------------------------------------------------


async def test_a_refused_attempt_waits_as_long_as_the_endpoint_says(
    host: Host, dialer: FakeDialer
) -> None:
    await host.register_endpoint(registration())
    invocation_id = await send(host)
    await until(lambda: dialer.ports[A].attempts)
    stream: Any = dialer.ports[A].attempts[0].stream
    before_ms = host.now_ms()
    stream.on_refused("overloaded [HF1345]", Refusal(503, 60_000))
    stream.on_closed("late")
    while await status_of(host, invocation_id) is not Status.BACKING_OFF:
        await asyncio.sleep(0.001)
    row = await host.invocation(invocation_id)
    assert row is not None
    assert row.retry_at_ms >= before_ms + 60_000
    assert row.last_failure is not None
    assert (row.last_failure.code, row.last_failure.message) == (503, "overloaded [HF1345]")
    assert row.deployment_id is None
    assert host.health()["attempts_open"] == 0


# -- change and removal ----------------------------------------------------------------------------


async def test_an_update_moves_a_deployment_and_keeps_its_id_and_revisions(
    host: Host, store: MemoryStore, dialer: FakeDialer
) -> None:
    first, _ = await host.register_endpoint(registration(metadata={"team": "shop"}))
    dialer.served[B] = manifest_of("Other")
    change = Change(uri=B, headers={"X-Tenant": "t"})
    changed = await host.update_endpoint(first.id, change)
    assert (changed.id, changed.revisions) == (first.id, first.revisions)
    assert changed.manifest == first.manifest
    assert changed.endpoint is not None
    assert changed.endpoint.uri == B
    assert changed.endpoint.headers == {"x-tenant": "t"}
    assert changed.endpoint.metadata == {"team": "shop"}
    assert await store.deployments() == [changed]
    assert dialer.ports[A].endpoint.uri == B
    overwritten = await host.update_endpoint(first.id, Change(is_overwriting=True))
    assert [s.name for s in overwritten.manifest.services] == ["Other"]


async def test_an_update_of_nothing_and_a_dry_run_change_nothing(
    host: Host, store: MemoryStore, dialer: FakeDialer
) -> None:
    first, _ = await host.register_endpoint(registration())
    assert await host.update_endpoint(first.id, Change()) == first
    assert len(dialer.asked) == 1
    changed = await host.update_endpoint(first.id, Change(uri=B, is_dry_run=True))
    assert changed.endpoint is not None
    assert changed.endpoint.uri == B
    assert await store.deployments() == [first]


async def test_an_update_to_other_protocol_versions_is_refused(
    host: Host, dialer: FakeDialer
) -> None:
    first, _ = await host.register_endpoint(registration())
    dialer.protocol_version_max = 5
    with pytest.raises(EndpointError) as caught:
        await host.update_endpoint(first.id, Change(uri=B))
    assert (caught.value.code, caught.value.restate_code) == ("HF1285", "META0016")


async def test_a_worker_cannot_be_updated(host: Host) -> None:
    await host.attach_worker(ScriptedPort())
    with pytest.raises(ConflictError) as caught:
        await host.update_endpoint(deployment_id_of("scripted"), Change(uri=A))
    assert caught.value.code == "HF1289"


async def test_a_deployment_in_use_is_removed_only_by_force(
    host: Host, store: MemoryStore, dialer: FakeDialer
) -> None:
    old, _ = await host.register_endpoint(registration(A))
    with pytest.raises(ConflictError) as caught:
        await host.remove_deployment(old.id, is_forced=False)
    assert caught.value.code == "HF1284"
    pinned = await send(host)
    await until(lambda: dialer.ports[A].attempts)
    dialer.ports[A].attempts[0].say(Run(1))
    new, _ = await host.register_endpoint(registration(B))
    while not await host.open_invocation_count(old.id):
        await asyncio.sleep(0.001)
    with pytest.raises(ConflictError, match="1 open invocations"):
        await host.remove_deployment(old.id, is_forced=False)
    await host.remove_deployment(old.id, is_forced=True)
    assert dialer.ports[A].is_closed
    assert await store.deployments() == [new]
    # What is pinned to it waits; whoever wants to can kill it.
    assert await status_of(host, pinned) is Status.RUNNING
    await host.kill(pinned)
    assert await status_of(host, pinned) is Status.COMPLETED


async def test_a_drained_deployment_is_removed(host: Host, dialer: FakeDialer) -> None:
    old, _ = await host.register_endpoint(registration(A))
    await host.register_endpoint(registration(B))
    await host.remove_deployment(old.id, is_forced=False)
    assert len(host.deployments()) == 1
    with pytest.raises(NotFoundError) as caught:
        await host.remove_deployment(old.id, is_forced=True)
    assert caught.value.code == "HF1062"
    rows = await host.invocations(InvocationFilter(), None, 10)
    assert rows == []


async def test_a_deployment_that_an_attempt_may_yet_pin_itself_to_stays(
    host: Host, dialer: FakeDialer
) -> None:
    old, _ = await host.register_endpoint(registration(A))
    invocation_id = await send(host)
    await until(lambda: dialer.ports[A].attempts)
    await host.register_endpoint(registration(B))
    assert not await host.open_invocation_count(old.id)
    with pytest.raises(ConflictError, match="attempts of open invocations run on it"):
        await host.remove_deployment(old.id, is_forced=False)
    # Here it has spoken, and what it said is not stored yet.
    dialer.ports[A].attempts[0].say(Run(1), Suspension((1,)))
    dialer.ports[A].attempts[0].stream.on_closed(None)
    with pytest.raises(ConflictError, match="1 open invocations are pinned to it"):
        await host.remove_deployment(old.id, is_forced=False)
    await host.kill(invocation_id)
    await host.remove_deployment(old.id, is_forced=False)
    assert dialer.ports[A].is_closed


async def test_nothing_is_moved_to_a_deployment_that_is_being_removed(
    host: Host, dialer: FakeDialer, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, _ = await host.register_endpoint(registration(A))
    ended = await send(host)
    await until(lambda: dialer.ports[A].attempts)
    dialer.ports[A].attempts[0].finish()
    await host.attach(ended)
    await host.register_endpoint(registration(B))
    invocation_id = await send(host)
    await until(lambda: dialer.ports[B].attempts)
    await host.operations.pause(invocation_id)
    refusals: list[str] = []
    count = Registrar.open_invocation_count

    async def counting(self: Registrar, deployment_id: str) -> int:
        found = await count(self, deployment_id)
        with pytest.raises(NotFoundError) as caught:
            await host.operations.resume(invocation_id, old.id)
        refusals.append(caught.value.code)
        with pytest.raises(NotFoundError) as caught:
            await host.operations.restart(ended, 0, "keep")
        refusals.append(caught.value.code)
        return found

    monkeypatch.setattr(Registrar, "open_invocation_count", counting)
    await host.remove_deployment(old.id, is_forced=False)
    assert refusals == ["HF1062"] * 2


async def test_removing_the_latest_brings_the_one_before_back(
    host: Host, dialer: FakeDialer
) -> None:
    await host.register_endpoint(registration(A))
    new, _ = await host.register_endpoint(registration(B))
    await host.remove_deployment(new.id, is_forced=True)
    await send(host)
    await until(lambda: dialer.ports[A].attempts)


async def test_an_attempt_that_ends_is_over_for_its_port(host: Host, dialer: FakeDialer) -> None:
    await host.register_endpoint(registration())
    invocation_id = await send(host)
    await until(lambda: dialer.ports[A].attempts)
    dialer.ports[A].attempts[0].say(Error(500, "no", behavior=1))
    while await status_of(host, invocation_id) is not Status.PAUSED:
        await asyncio.sleep(0.001)


async def test_what_waits_for_an_endpoint_that_is_removed_goes_to_the_one_before(
    host: Host, dialer: FakeDialer
) -> None:
    await host.register_endpoint(registration(A))
    newer, _ = await host.register_endpoint(registration(B))
    dialer.ports[B].is_draining = True
    await send(host)
    assert host.health()["attempts_waiting"] == 1
    await host.remove_deployment(newer.id, is_forced=True)
    assert len(dialer.ports[A].attempts) == 1
    assert host.health()["attempts_waiting"] == 0


async def test_what_waits_goes_to_an_endpoint_that_is_asked_again(
    host: Host, dialer: FakeDialer
) -> None:
    await host.register_endpoint(registration(A))
    await host.register_endpoint(registration(B))
    dialer.ports[B].is_draining = True
    await send(host)
    await host.register_endpoint(registration(A, is_forced=True))
    assert len(dialer.ports[A].attempts) == 1
