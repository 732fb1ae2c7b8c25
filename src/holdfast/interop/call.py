"""Calls that outlive the connections and restarts of the server.

A call is accepted under an idempotency key and then waited for by its id, so both may be asked
again. Only when the server has not answered for a while does the call give up waiting; the
invocation goes on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from holdfast.domain.errors import StorageUnavailable, TransportError
from holdfast.interop.argument import Arguments
from holdfast.interop.offer import Offer
from holdfast.sdk.http_client import Client

T = TypeVar("T")

PATIENCE_S = 60.0
"""How long a server may be away."""

_RETRY_DELAY_S_MIN = 0.05
_RETRY_DELAY_S_MAX = 2.0


class Caller:
    """Calls handlers.

    Args:
        client: With an admin URL.
        patience_s: How long a server may be away.
    """

    def __init__(self, client: Client, *, patience_s: float = PATIENCE_S) -> None:
        self._client = client
        self._patience_s = patience_s

    async def accept(self, offer: Offer, arguments: Arguments, idempotency_key: str) -> str:
        """Make an invocation and return its id once it is durable. Repeated: the same one.

        Raises:
            HoldfastError: It was refused, or the server was away for too long.
        """

        async def send() -> str:
            sent = await self._client.send(
                offer.target,
                arguments.input,
                key=arguments.key,
                # The run of a workflow takes none: its key does the same.
                idempotency_key=None if offer.is_run else idempotency_key,
            )
            return sent.invocation_id

        return await self.patiently(send)

    async def result(self, invocation_id: str) -> Any:
        """Wait for the result of an invocation, as JSON.

        Raises:
            TerminalError: It failed.
            HoldfastError: The server was away for too long, or does not know it any more.
        """

        async def attach() -> Any:
            return await self._client.attach(invocation_id)

        return await self.patiently(attach)

    async def cancel(self, invocation_id: str) -> None:
        """Cancel an invocation.

        Raises:
            HoldfastError: The server was away for too long.
        """

        async def cancel() -> None:
            await self._client.cancel(invocation_id)

        await self.patiently(cancel)

    async def patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask again while the server is away. What is asked must be safe to repeat.

        Raises:
            TransportError, StorageUnavailable: The server was away for too long.
        """
        clock = asyncio.get_running_loop().time
        away_since_s: float | None = None
        failure_count = 0
        while True:
            asked_at_s = clock()
            try:
                return await ask()
            except (TransportError, StorageUnavailable):
                now_s = clock()
                if away_since_s is None or now_s - asked_at_s > _RETRY_DELAY_S_MAX:
                    # It was there and has kept us waiting, maybe for days.
                    away_since_s, failure_count = now_s, 0
                if now_s - away_since_s > self._patience_s:
                    raise
            failure_count += 1
            longest_s = min(_RETRY_DELAY_S_MAX, _RETRY_DELAY_S_MIN * 2 ** min(failure_count, 8))
            # Jitter: those who wait must not all come back at once.
            await asyncio.sleep(random.uniform(longest_s / 2, longest_s))
