"""The memory of a conversation, in the state of the object that the handler belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.memory import SessionSettings
from agents.memory.session_settings import resolve_session_limit

from holdfast.ai.guard import current

if TYPE_CHECKING:
    from agents.items import TResponseInputItem


class HoldfastSession:
    """A session of the SDK that keeps its items in the state of a virtual object or workflow.

    Each item is a state entry of its own, so a turn writes what is new and not the conversation.
    It is committed together with the invocation: a crash neither loses nor doubles an item. Make
    one in the handler; it holds nothing itself.

    Args:
        session_id: Names the conversation, where an object has several.
        session_settings: Of the SDK; `limit` is how many of the latest items a run sees.
    """

    def __init__(
        self, session_id: str = "session", session_settings: SessionSettings | None = None
    ) -> None:
        self.session_id = session_id
        self.session_settings = session_settings

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """Return the latest items, oldest first.

        Args:
            limit: How many; `None`: as the settings say, or all.

        Raises:
            UsageError: HF0506, the handler has no state; HF0501 and HF0502, there is no handler.
        """
        chosen = resolve_session_limit(limit, self.session_settings)
        count = await self._count()
        first = 0 if chosen is None else max(0, count - max(chosen, 0))
        # All are asked for before one is awaited: they are read in one go.
        reading = [current().get(self._entry(number)) for number in range(first, count)]
        return [await item for item in reading]

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Add items at the end. Raises what `get_items` does."""
        if not items:
            return
        count = await self._count()
        for number, item in enumerate(items, count):
            current().set(self._entry(number), item, type=Any)
        current().set(self._counter, count + len(items))

    async def pop_item(self) -> TResponseInputItem | None:
        """Remove the latest item and return it; `None` if there is none."""
        count = await self._count()
        if count == 0:
            return None
        item: TResponseInputItem = await current().get(self._entry(count - 1))
        current().clear(self._entry(count - 1))
        current().set(self._counter, count - 1)
        return item

    async def clear_session(self) -> None:
        """Remove all items."""
        for number in range(await self._count()):
            current().clear(self._entry(number))
        current().clear(self._counter)

    async def _count(self) -> int:
        return await current().get(self._counter, type=int) or 0

    @property
    def _counter(self) -> str:
        return f"{self.session_id}:count"

    def _entry(self, number: int) -> str:
        # With zeros, so that lists of state entries are in order.
        return f"{self.session_id}:{number:08}"
