"""What steps were: model calls and tool calls, for people who look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import NamedTuple, Protocol, cast

from holdfast.engine.row import ContentRow, Key, Lookup, StoredDetail, Table
from holdfast.storage.base import Store
from holdfast.storage.scan import Comparison, Condition, Order, Scan, Source


class Content(NamedTuple):
    """What was said in a call."""

    messages: tuple[bytes, ...]
    """JSON each. Of a tool: its arguments."""
    answer: bytes | None
    """JSON. Of a tool: its result."""


class DetailPlace(NamedTuple):
    """A place in the list of all details: later ones first, those of one time by their keys."""

    at_ms: int
    invocation_id: str
    completion_id: int
    attempt: int


class Details(Protocol):
    """The details of steps that a server keeps."""

    async def of(self, invocation_id: str) -> tuple[StoredDetail, ...]:
        """Return the details of an invocation, by completion id and attempt."""
        ...

    async def contents(self, details: Sequence[StoredDetail]) -> list[Content]:
        """Return what was said in calls of one invocation."""
        ...

    async def recent(
        self, conditions: Sequence[Condition], after: DetailPlace | None, limit: int
    ) -> list[StoredDetail]:
        """Return details of all invocations, newest first, after a place in that order."""
        ...


class HostDetails:
    """Implements `Details` on the store of a host.

    Args:
        store: Where they are.
        partition_of: Returns the partition of an invocation.
    """

    def __init__(self, store: Store, partition_of: Callable[[str], int]) -> None:
        self._store = store
        self._partition_of = partition_of

    async def of(self, invocation_id: str) -> tuple[StoredDetail, ...]:
        """Return the details of an invocation, by completion id and attempt."""
        key: Key = (Lookup.DETAILS, invocation_id)
        found = await self._store.load(self._partition_of(invocation_id), [key])
        return cast("tuple[StoredDetail, ...]", found[key])

    async def contents(self, details: Sequence[StoredDetail]) -> list[Content]:
        """Return what was said in calls of one invocation."""
        if not details:
            return []
        keys: list[Key] = []
        for each in details:
            if each.row.head is not None:
                keys.append((Lookup.PROMPT, each.row.head))
            if each.row.answer is not None:
                keys.append((Table.CONTENT, each.row.answer))
        found = await self._store.load(self._partition_of(details[0].invocation_id), keys)
        contents: list[Content] = []
        for each in details:
            # Both may have gone meanwhile, with their invocation.
            messages = found.get((Lookup.PROMPT, each.row.head or b"")) or ()
            answer = found.get((Table.CONTENT, each.row.answer or b""))
            contents.append(
                Content(
                    cast("tuple[bytes, ...]", messages),
                    answer.data if isinstance(answer, ContentRow) else None,
                )
            )
        return contents

    async def recent(
        self, conditions: Sequence[Condition], after: DetailPlace | None, limit: int
    ) -> list[StoredDetail]:
        """Return details of all invocations, newest first, after a place in that order."""
        if after is not None:
            earlier = Condition("at_ms", Comparison.BELOW, (after.at_ms + 1,))
            conditions = (*conditions, earlier)
        found: list[StoredDetail] = []
        scan = Scan(Source.DETAIL, tuple(conditions), Order.NEWEST)
        async with aclosing(self._store.scan(scan)) as pages:
            async for page in pages:
                details = cast("list[StoredDetail]", page)
                found += (each for each in details if after is None or _is_after(each, after))
                if len(found) >= limit:
                    break
        return found[:limit]


def place_of(detail: StoredDetail) -> DetailPlace:
    """Return the place of a detail in the list of all."""
    return DetailPlace(detail.row.at_ms, *detail[:3])


def _is_after(detail: StoredDetail, place: DetailPlace) -> bool:
    return detail.row.at_ms < place.at_ms or detail[:3] > place[1:]
