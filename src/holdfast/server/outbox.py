"""Carries messages between partitions: in order, until the receiver has committed them.

A message is sent again after a crash; the receiver drops what it has (`Inbound`). Per pair of
partitions there is one sender at a time and it never skips, or the receiver would take a later
message for all that came before it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable
from itertools import islice

from holdfast.engine.record import Envelope, Inbound, OutboxSent
from holdfast.server.partition import Partition
from holdfast.storage.base import Store

_log = logging.getLogger(__name__)

_PAGE_ROWS = 1_000
_SLICE_MESSAGES = 512
"""Proposed at once: far fewer than a receiver's queue takes."""
_RETRY_S = 0.2


class Outbox:
    """The sending side of one partition."""

    def __init__(
        self, partition: Partition, store: Store, route: Callable[[int], Partition]
    ) -> None:
        """Prepare.

        Args:
            route: Returns the leader of a partition.
        """
        self._partition = partition
        self._store = store
        self._route = route
        self._queues: dict[int, deque[tuple[int, Envelope]]] = defaultdict(deque)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._is_stopped = False

    async def load(self) -> None:
        """Queue what an earlier leader left. Call before the partition starts."""
        after = 0
        while True:
            rows = await self._store.outbox(self._partition.index, after, _PAGE_ROWS)
            for sequence, row in rows:
                self.enqueue(sequence, row.to_partition, row.message)
                after = sequence
            if len(rows) < _PAGE_ROWS:
                return

    def enqueue(self, sequence: int, to_partition: int, message: Envelope) -> None:
        """Take in a message whose row has been committed."""
        self._queues[to_partition].append((sequence, message))
        if to_partition not in self._tasks and not self._is_stopped:
            self._tasks[to_partition] = asyncio.get_running_loop().create_task(
                self._pump(to_partition), name=f"outbox {self._partition.index}>{to_partition}"
            )

    @property
    def is_idle(self) -> bool:
        """Whether everything has been sent and committed by its receiver."""
        return not self._tasks

    async def stop(self) -> None:
        """Send nothing more."""
        self._is_stopped = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pump(self, to_partition: int) -> None:
        queue = self._queues[to_partition]
        try:
            while queue:
                messages = list(islice(queue, _SLICE_MESSAGES))
                try:
                    await self._send(to_partition, messages)
                except Exception as error:
                    # Whatever it is, skipping would lose the message: only waiting is right.
                    _log.warning(
                        "messages to another partition wait: %s",
                        error,
                        extra={"partition_id": self._partition.index},
                    )
                    await asyncio.sleep(_RETRY_S)
                    continue
                for _ in messages:
                    queue.popleft()
                sequences = tuple(sequence for sequence, _ in messages)
                self._partition.submit(OutboxSent(to_partition, sequences))
        finally:
            del self._tasks[to_partition]

    async def _send(self, to_partition: int, messages: list[tuple[int, Envelope]]) -> None:
        receiver = self._route(to_partition)
        answers = [
            receiver.propose(Inbound(self._partition.index, sequence, message))
            for sequence, message in messages
        ]
        await asyncio.gather(*answers)
