"""Limits on attempts in flight, for handlers and services that ask for one (`concurrency=`)."""

from __future__ import annotations

from typing import NamedTuple

from holdfast.domain.target import Target
from holdfast.engine.row import HandlerRow


class Gate(NamedTuple):
    """What shares one limit."""

    name: str
    """`Service/handler`, or `Service` for all its handlers that have no limit of their own."""
    limit: int


class Gates:
    """Counts of the attempts that are in flight behind gates."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    @staticmethod
    def of(target: Target, handler: HandlerRow | None) -> Gate | None:
        """Return the gate of a handler, if it has one."""
        if handler is None or handler.manifest.concurrency is None:
            return None
        is_shared = handler.manifest.is_concurrency_shared
        name = target.service if is_shared else f"{target.service}/{target.handler}"
        return Gate(name, handler.manifest.concurrency)

    def has_room(self, gate: Gate | None) -> bool:
        """Whether one more may enter."""
        return gate is None or self._counts.get(gate.name, 0) < gate.limit

    def enter(self, gate: Gate | None) -> None:
        """Count one that enters."""
        if gate is not None:
            self._counts[gate.name] = self._counts.get(gate.name, 0) + 1

    def leave(self, gate: Gate | None) -> None:
        """Give its place back."""
        if gate is not None:
            self._counts[gate.name] -= 1
            if not self._counts[gate.name]:
                del self._counts[gate.name]
