"""The state of objects, as seen from outside of handlers: reading, editing, and what expires."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from heapq import merge
from itertools import groupby, islice

from holdfast.domain.ids import key_partition_key, partition_of
from holdfast.engine.decision import Answer
from holdfast.engine.record import StateEdited, StateExpired
from holdfast.engine.row import StateEdit, StateRow
from holdfast.server.clock import Clock
from holdfast.server.partition import Partition
from holdfast.storage.base import Store

_EXPIRED_ROWS_MAX = 500


class States:
    """The state of all objects of a server."""

    def __init__(self, store: Store, clock: Clock, partitions: Sequence[Partition]) -> None:
        self._store = store
        self._clock = clock
        self._partitions = partitions

    def _partition_of(self, key: str) -> Partition:
        return self._partitions[partition_of(key_partition_key(key), len(self._partitions))]

    async def read(self, service: str, key: str) -> dict[str, StateRow]:
        """Return the state of an object key, sorted by name, without what has expired."""
        index = self._partition_of(key).index
        return (await self._store.state(index, service, key, self._clock.now_ms())).entries

    async def keys(self, service: str, after: str, limit: int) -> list[str]:
        """Return the keys of a service that have state, sorted, greater than `after`."""
        now_ms = self._clock.now_ms()
        pages = await asyncio.gather(
            *(
                self._store.state_keys(partition.index, service, now_ms, after, limit)
                for partition in self._partitions
            )
        )
        return list(islice(merge(*pages), limit))

    async def edit(self, service: str, key: str, edit: StateEdit, *, is_workflow: bool) -> Answer:
        """Change the state of an object key, when its turn has come."""
        record = StateEdited(service, key, edit, is_workflow)
        return await self._partition_of(key).propose(record)

    async def expire(self, partition: Partition) -> None:
        """Remove state entries that have expired."""
        is_page_full = True
        while is_page_full:
            found = await self._store.expired_state(
                partition.index, self._clock.now_ms(), _EXPIRED_ROWS_MAX
            )
            places = groupby(sorted(found), key=lambda place: place[:2])
            await asyncio.gather(
                *(
                    partition.propose(StateExpired(service, key, tuple(n for *_, n in group)))
                    for (service, key), group in places
                )
            )
            is_page_full = len(found) == _EXPIRED_ROWS_MAX
