"""Settings of services: durable, of one revision, and what a server adds for all."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from holdfast.domain.errors import NotFoundError, UsageError
from holdfast.domain.retry import RetrySchedule
from holdfast.domain.setting import ServiceSettings
from holdfast.domain.target import (
    HandlerKind,
    HandlerManifest,
    Manifest,
    ServiceKind,
    ServiceManifest,
)
from holdfast.server.catalog import Catalog
from holdfast.storage.base import StoredDeployment
from holdfast.storage.memory import MemoryStore

PRIVATE = ServiceSettings(is_private=True)
HANDLER = HandlerManifest(name="run", kind=HandlerKind.PLAIN)


def manifest_of(*handlers: HandlerManifest, name: str = "S") -> Manifest:
    service = ServiceManifest(name=name, kind=ServiceKind.SERVICE, handlers=handlers or (HANDLER,))
    return Manifest(services=(service,))


async def opened(store: MemoryStore) -> Catalog:
    catalog = Catalog(store)
    await catalog.load()
    return catalog


async def test_settings_hold_at_once_and_after_a_restart() -> None:
    store = MemoryStore(1)
    catalog = await opened(store)
    deployment_id = await catalog.register("w", manifest_of(), 1)
    await catalog.change_settings("S", PRIVATE)
    await catalog.change_settings("S", ServiceSettings(journal_retention_ms=5))
    for each in (catalog, await opened(store)):
        row = each.resolve("S", "run")
        assert (row.manifest.is_private, row.manifest.journal_retention_ms) == (True, 5)
        assert row.deployment_id == deployment_id
        assert each.services()[0].handlers[0] == row.manifest
        assert each.revision("S") == 1
    # What the code says is still known.
    assert (await store.deployments())[0].manifest == manifest_of()


async def test_the_same_code_keeps_them_and_a_new_revision_begins_anew() -> None:
    store = MemoryStore(1)
    catalog = await opened(store)
    await catalog.register("w", manifest_of(), 1)
    await catalog.change_settings("S", PRIVATE)
    await catalog.register("w", manifest_of(), 2)
    assert catalog.resolve("S", "run").manifest.is_private
    await catalog.register("w", manifest_of(replace(HANDLER, documentation="new")), 3)
    assert not catalog.resolve("S", "run").manifest.is_private
    assert (await store.deployments())[0].settings is None


async def test_an_older_deployment_comes_back_with_its_own() -> None:
    catalog = await opened(MemoryStore(1))
    await catalog.register("old", manifest_of(), 1)
    await catalog.change_settings("S", PRIVATE)
    new = await catalog.register("new", manifest_of(), 2)
    assert not catalog.resolve("S", "run").manifest.is_private
    await catalog.remove(new)
    assert catalog.resolve("S", "run").manifest.is_private


async def test_no_such_service() -> None:
    catalog = await opened(MemoryStore(1))
    with pytest.raises(NotFoundError, match="HF1001"):
        await catalog.change_settings("S", PRIVATE)


class SlowStore(MemoryStore):
    """Writes deployments in the order in which they came, but not at once."""

    async def put_deployment(self, deployment: StoredDeployment) -> None:
        await asyncio.sleep(0)
        await super().put_deployment(deployment)


async def test_changes_and_registrations_at_once_do_not_undo_each_other() -> None:
    store = SlowStore(1)
    catalog = await opened(store)
    await catalog.register("w", manifest_of(), 1)
    newer = manifest_of(replace(HANDLER, documentation="new"))
    await asyncio.gather(
        catalog.change_settings("S", PRIVATE),
        catalog.change_settings("S", ServiceSettings(abort_timeout_ms=5)),
        catalog.register("w", newer, 2),
        catalog.change_settings("S", ServiceSettings(inactivity_timeout_ms=7)),
    )
    [stored] = await store.deployments()
    assert (stored.manifest, stored.revision) == (newer, 2)
    assert stored.settings == {"S": ServiceSettings(inactivity_timeout_ms=7)}


async def test_what_a_server_says_for_all() -> None:
    store = MemoryStore(1)
    retry = RetrySchedule(max_attempts=1)
    own = replace(HANDLER, name="own", retry=RetrySchedule(max_attempts=9))
    catalog = Catalog(store, is_state_lazy=True, retry=retry)
    await catalog.register("w", manifest_of(HANDLER, own), 1)
    rows = {name: catalog.resolve("S", name).manifest for name in ("run", "own")}
    assert all(manifest.is_state_lazy for manifest in rows.values())
    assert rows["run"].retry == retry
    assert rows["own"].retry == own.retry


async def test_a_retry_policy_that_is_not_possible_is_not_registered() -> None:
    store = MemoryStore(1)
    catalog = await opened(store)
    odd = replace(HANDLER, retry=RetrySchedule(factor=float("inf")))
    with pytest.raises(UsageError, match=r"(?s)S/run in deployment 'w'.*factor is inf.*\[HF1288\]"):
        await catalog.register("w", manifest_of(odd), 1)
    assert await store.deployments() == []
