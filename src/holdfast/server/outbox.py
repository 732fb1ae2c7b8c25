"""Carries messages between partitions: in order, until the receiver has committed them.

A message is sent again after a crash; the receiver drops what it has (`Inbound`). Per pair of
partitions there is one sender at a time and it never skips, or the receiver would take a later
message for all that came before it.

So a message that the receiver refuses, because rows there contradict each other, holds up the ones
behind it. Each may be a promise that is in somebody's journal, so none is given up: a log line and
`GET /health` say what waits, and it is tried again until the rows have changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable
from itertools import islice

from holdfast.domain.errors import StorageUnavailable, Unstorable
from holdfast.engine.decision import Answer, Reply
from holdfast.engine.record import CompletionSent, Envelope, Inbound, OutboxSent
from holdfast.server.partition import Partition
from holdfast.storage.base import Store

_log = logging.getLogger(__name__)

_PAGE_ROWS = 1_000
_SLICE_MESSAGES = 512
"""Proposed at once: far fewer than a receiver's queue takes."""
_RETRY_S = 0.2
_REFUSED_RETRY_S_MAX = 60.0
"""Between attempts to have a refused message taken in: twice as long each time, up to this."""


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
        self._refusals: dict[int, int] = {}
        """By receiver that refuses the next message: how often it has."""
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

    def waiting_count(self) -> int:
        """Return the number of messages that are not known to be taken in."""
        return sum(len(queue) for queue in self._queues.values())

    def blocked_count(self) -> int:
        """Return the number of partitions that refuse the next message for them."""
        return len(self._refusals)

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
                # Those behind a message that was refused would be refused with it.
                size = 1 if to_partition in self._refusals else _SLICE_MESSAGES
                messages = list(islice(queue, size))
                count, error = await self._send(to_partition, messages)
                if count:
                    self._refusals.pop(to_partition, None)
                    sequences = tuple(queue.popleft()[0] for _ in range(count))
                    self._partition.submit(OutboxSent(to_partition, sequences))
                if error is not None:
                    # Whatever it is, skipping would lose the message: only waiting is right.
                    await asyncio.sleep(self._wait_s(to_partition, queue[0], error))
        finally:
            del self._tasks[to_partition]

    async def _send(
        self, to_partition: int, messages: list[tuple[int, Envelope]]
    ) -> tuple[int, Exception | None]:
        """Return how many were taken in, from the first on, and why no more were."""
        receiver = self._route(to_partition)
        answers: list[asyncio.Future[Answer]] = []
        before, error = 0, None
        try:
            for sequence, message in messages:
                record = Inbound(self._partition.index, sequence, message, before)
                answers.append(receiver.propose(record))
                before = sequence
        except Exception as refused:
            error = refused
        for count, answer in enumerate(await asyncio.gather(*answers, return_exceptions=True)):
            if isinstance(answer, Exception):
                return count, answer
            if not isinstance(answer, Answer) or answer.reply is Reply.CONFLICT:
                # Not taken in, for what was before it. Nothing but an answer means that it was.
                return count, StorageUnavailable("A message before it is not taken in yet.")
        return len(answers), error

    def _wait_s(self, to_partition: int, first: tuple[int, Envelope], error: Exception) -> float:
        """Say why messages wait, and return until when."""
        facts = {"partition_id": self._partition.index, "to_partition_id": to_partition}
        if not isinstance(error, Unstorable) and getattr(error, "code", "") != "HF4013":
            _log.warning("messages to another partition wait: %s", error, extra=facts)
            return _RETRY_S
        count = self._refusals[to_partition] = self._refusals.get(to_partition, 0) + 1
        wait_s = min(_RETRY_S * 2.0 ** min(count, 32), _REFUSED_RETRY_S_MAX)
        if count == 1 or wait_s == _REFUSED_RETRY_S_MAX:
            sequence, message = first
            _log.error(
                "partition %s cannot take in message %s of partition %s, a %s for %s; those behind"
                " it wait: %s [HF2036]",
                to_partition,
                sequence,
                self._partition.index,
                type(message).__name__,
                _receiver_of(message),
                error,
                extra=facts,
            )
        return wait_s


def _receiver_of(message: Envelope) -> str:
    if isinstance(message, CompletionSent):
        return message.sink.invocation_id
    return message.invocation_id
