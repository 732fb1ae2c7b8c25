"""What a turn of a chat has in its hands."""

from __future__ import annotations

from typing import Any

import holdfast as hf
from holdfast.ai.session.mailbox import take
from holdfast.ai.session.memory import Memory


class Session:
    """One conversation, as one of its turns sees it."""

    def __init__(
        self, ctx: hf.Context, memory: Memory, text: str, unanswered: list[str], box: str | None
    ) -> None:
        self._memory = memory
        self._box = box
        self.ctx = ctx
        """The durable context of the turn."""
        self.text = text
        """What was said."""
        self.unanswered = unanswered
        """What was said before, to turns that ended before they appended anything."""

    @property
    def key(self) -> str:
        """Names the conversation."""
        return self.ctx.key

    @property
    def prompt(self) -> str:
        """What the model has not seen: `unanswered` and `text`, with empty lines between."""
        return "\n\n".join([*self.unanswered, self.text])

    @property
    def messages(self) -> list[Any]:
        """What was appended, oldest first, also by this turn; the summary, if any, in front."""
        return list(self._memory.messages)

    def append(self, *messages: Any) -> None:
        """Remember messages: JSON values in the form of your framework.

        What is appended stays when the turn is interrupted, so append a call of a tool together
        with its result: providers refuse one without the other.

        Raises:
            SerdeError: A message is not JSON.
        """
        self._memory.append(messages)

    async def steering(self) -> list[str]:
        """Take in what was said since the turn began, oldest first. Ask before each model call.

        What is returned belongs to this turn. Without `on_message="steer"` there is never any.
        """
        if self._box is None:
            return []
        texts = await self.ctx.call(take, key=self._box)
        if texts:
            self._memory.steer(texts)
        return texts
