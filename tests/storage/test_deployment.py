"""Deployments and promises in stores: one contract for all."""

from __future__ import annotations

from holdfast.domain.deployment import Endpoint, HttpVersion
from holdfast.domain.message import Value
from holdfast.domain.retry import RetrySchedule
from holdfast.domain.setting import ServiceSettings
from holdfast.domain.target import (
    HandlerKind,
    HandlerManifest,
    Manifest,
    ServiceKind,
    ServiceManifest,
)
from holdfast.engine.decision import Row
from holdfast.engine.row import (
    Key,
    Lookup,
    PromiseRow,
    Table,
)
from holdfast.storage.base import Store, StoredDeployment
from tests.storage.builder import (
    batch,
    load,
)

# -- promises --------------------------------------------------------------------------------------


async def test_names_of_promises(store: Store, epoch: int) -> None:
    def place(name: str, key: str = "k", service: str = "signup") -> Key:
        return (Table.PROMISE, service, key, name)

    names = ["b", "a", "é", "B"]
    put: dict[Key, Row | None] = {place(name): PromiseRow() for name in names}
    put |= {place("x", "other"): PromiseRow(), place("y", service="order"): PromiseRow()}
    await store.commit(batch(0, epoch, put=put))
    lookup = (Lookup.PROMISE_NAMES, "signup", "k")
    assert await load(store, lookup) == tuple(sorted(names))
    await store.commit(batch(0, epoch, put={place("b"): None, place("a"): PromiseRow(Value(b"1"))}))
    assert await load(store, lookup) == ("B", "a", "é")
    assert await load(store, place("a")) == PromiseRow(Value(b"1"))
    assert await load(store, lookup, partition=1) == ()


# -- deployments -----------------------------------------------------------------------------------


def deployment(name: str, created_at_ms: int, revision: int = 1) -> StoredDeployment:
    handler = HandlerManifest(
        name="greet",
        kind=HandlerKind.PLAIN,
        input_schema={"type": "object", "n": [1, None, 2.5, True]},
        retry=RetrySchedule(),
    )
    service = ServiceManifest(name=name, kind=ServiceKind.SERVICE, handlers=(handler,))
    return StoredDeployment(
        f"dp_{name}", name, Manifest(services=(service,)), created_at_ms, revision
    )


async def test_deployments(store: Store) -> None:
    assert list(await store.deployments()) == []
    second, first = deployment("b", 2), deployment("a", 1)
    await store.put_deployment(second)
    await store.put_deployment(first)
    assert list(await store.deployments()) == [first, second]
    replaced = deployment("a", 3, revision=2)
    await store.put_deployment(replaced)
    assert list(await store.deployments()) == [second, replaced]


async def test_deployments_with_settings_of_services(store: Store) -> None:
    settings = {"S": ServiceSettings(is_private=True, abort_timeout_ms=0), "T": ServiceSettings()}
    changed = deployment("w", 1)._replace(settings=settings)
    await store.put_deployment(changed)
    assert list(await store.deployments()) == [changed]
    await store.put_deployment(deployment("w", 1))
    assert list(await store.deployments()) == [deployment("w", 1)]


async def test_deployments_that_are_reached_by_address(store: Store) -> None:
    endpoint = Endpoint(
        uri="https://h/base?x=1",
        headers={"authorization": "Bearer x"},
        http_version=HttpVersion.HTTP_1_1,
        is_bidirectional=False,
        protocol_version_min=5,
        protocol_version_max=6,
        sdk_version="some-sdk/1.2.3",
        metadata={"team": "shop"},
    )
    worker, dialled = deployment("w", 1), deployment("d", 2)
    dialled = dialled._replace(endpoint=endpoint, revisions={"d": 3})
    await store.put_deployment(dialled)
    await store.put_deployment(worker)
    assert list(await store.deployments()) == [worker, dialled]
    await store.delete_deployment(dialled.id)
    await store.delete_deployment("dp_unknown")
    assert list(await store.deployments()) == [worker]


async def test_closing_twice(store: Store) -> None:
    await store.close()
    await store.close()
