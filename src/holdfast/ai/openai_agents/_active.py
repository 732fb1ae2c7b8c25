"""The durable run around the running code, for what the SDK starts below it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from holdfast.sdk.branch import Branch, entered, place

from ._approval import Approvals


@dataclass(frozen=True, slots=True)
class Active:
    """One run."""

    approvals: Approvals
    """How it asks people; runs below it inherit that."""
    branch: Branch | None
    """Where its operations are in the journal."""


ACTIVE: ContextVar[Active | None] = ContextVar("holdfast_openai_agents_run", default=None)
"""`None` outside of a durable run and inside a step."""


def activate(approvals: Approvals) -> Active:
    """Return the run whose scope has just been entered."""
    found = place.get()
    return Active(approvals, found if isinstance(found, Branch) else None)


@contextmanager
def in_run() -> Generator[None]:
    """Go to the branch of the run, from whatever task the SDK works in.

    The names of those tasks are the SDK's own. They must not be part of journal keys, or another
    version of the SDK could not go on with open invocations.
    """
    active = ACTIVE.get()
    if active is None or active.branch is None:
        yield
        return
    with entered(active.branch):
        yield
