"""Where in the tree of tasks the running code is.

A *branch* is one `asyncio` task of a handler, or one `ctx.scope`. Its path is that of its parent
and a label, so journal keys made in it do not depend on how tasks interleave. The context variable
`place` holds the branch of the running code; inside the body of a step it holds a `Leaf`, which is
no branch: tasks made there have no part in the journal.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from types import CodeType
from typing import TYPE_CHECKING, Any, NoReturn

from holdfast.domain.errors import UsageError

if TYPE_CHECKING:
    from random import Random

    from holdfast.domain.detail import Call, StepDetail
    from holdfast.sdk.attempt import Attempt
    from holdfast.sdk.detail import DetailPolicy
    from holdfast.sdk.emitter import StepWriter


class Branch:
    """One strand of a handler's program. Operations in it happen in the order as written."""

    __slots__ = (
        "_labels",
        "_operations",
        "attempt",
        "is_shielded",
        "made_early",
        "path",
        "random",
    )

    def __init__(self, attempt: Attempt | None, path: str, *, is_shielded: bool = False) -> None:
        self.attempt = attempt
        self.path = path
        self.is_shielded = is_shielded
        """Whether cancellations of the invocation pass over what is awaited here."""
        self.random: Random | None = None
        """Made at first use."""
        self.made_early: dict[int, asyncio.Future[Any]] | None = None
        """Tasks that asyncio is about to ask for, by the `id` of their coroutine."""
        self._operations: dict[str, int] = {}
        self._labels: dict[str, int] = {}

    def key(self, kind: str, name: str = "") -> str:
        """Return the journal key of the next operation of this kind and name in this branch."""
        label = f"{kind}:{name}" if name else kind
        # A slash separates branches, so it cannot be part of a name.
        if "/" in name:
            label = label.replace("/", "|")
        occurrence = self._operations.get(label, 0)
        self._operations[label] = occurrence + 1
        return f"{self.path}/{label}#{occurrence}" if self.path else f"{label}#{occurrence}"

    def child_path(self, label: str) -> str:
        """Return the path of the next child with this label."""
        if "/" in label:
            label = label.replace("/", "|")
        index = self._labels.get(label, 0)
        self._labels[label] = index + 1
        return f"{self.path}/{label}[{index}]" if self.path else f"{label}[{index}]"

    def child(self, label: str) -> Branch:
        """Return a new branch below this one."""
        return Branch(self.attempt, self.child_path(label), is_shielded=self.is_shielded)


class Leaf:
    """Marks the body of a step."""

    __slots__ = ("call", "detail", "details", "invocation_id", "step_key", "step_name", "writer")

    attempt = None
    """As in a branch that is not live, so the loop's hooks need one look only."""

    def __init__(self, step_name: str) -> None:
        self.step_name = step_name
        self.invocation_id = ""
        self.step_key = ""
        """Journal key of the step."""
        self.writer: StepWriter | None = None
        """For chunks that the body writes to streams; set when the step begins."""
        self.details: DetailPolicy | None = None
        """None: the server has no place for details."""
        self.call: Call | None = None
        """What the body says that it is."""
        self.detail: StepDetail | None = None
        """The same, as it may leave."""


place: ContextVar[Branch | Leaf | None] = ContextVar("holdfast_place", default=None)


def is_shielded() -> bool:
    """Return whether cancellations of the invocation pass over the running code."""
    branch = place.get()
    return type(branch) is Branch and branch.is_shielded


def shield() -> None:
    """Let cancellations of the invocation pass over what the running branch awaits from now on."""
    branch = place.get()
    assert type(branch) is Branch
    branch.is_shielded = True


@contextmanager
def entered(branch: Branch) -> Generator[None]:
    """Make `branch` the place of the running code."""
    token = place.set(branch)
    try:
        yield
    finally:
        place.reset(token)


def raise_misplaced(what: str, found: Branch | Leaf | None) -> NoReturn:
    """Refuse a durable call at a place that is no branch of its invocation."""
    if isinstance(found, Leaf):
        raise UsageError(
            f"{what} inside step {found.step_name!r}: durable calls inside a step cannot be "
            "recorded, because the step is recorded as one",
            code="HF0501",
            hint="Make the durable call in the handler, before or after the step, or split the "
            "step.",
        )
    if found is None:
        raise UsageError(
            f"{what} outside of a handler",
            code="HF0502",
            hint="Use it in the handler's own tasks. Threads and callbacks of foreign threads do "
            "not belong to them.",
        )
    raise UsageError(
        f"{what} with the context of another invocation",
        code="HF0502",
        hint="Do not share a context between invocations; use hf.current().",
    )


# -- call sites -----------------------------------------------------------------------------------

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_ASYNCIO = os.path.dirname(os.path.abspath(asyncio.__file__)) + os.sep
_is_ours: dict[CodeType, bool] = {}
_sites: dict[tuple[CodeType, int], str] = {}
"""Grows with the code, not with the calls."""


def call_site() -> str:
    """Return `file.py:LINE function` of the nearest caller outside of holdfast and asyncio."""
    frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    while True:
        code = frame.f_code
        ours = _is_ours.get(code)
        if ours is None:
            ours = _is_ours[code] = code.co_filename.startswith((_PACKAGE, _ASYNCIO))
        if not ours:
            break
        if frame.f_back is None:
            return ""
        frame = frame.f_back
    spot = (code, frame.f_lasti)
    site = _sites.get(spot)
    if site is None:
        file = os.path.basename(code.co_filename)
        site = _sites[spot] = f"{file}:{frame.f_lineno} {code.co_qualname}"
    return site
