"""What users say about steps whose outcome nobody knows, and the key that makes repeating harmless.

The outcome of a step is unknown when its body has begun and its attempt was lost before the result
was recorded: the process died, or lost its server. An exception of the body is no unknown outcome.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from holdfast.domain.errors import UsageError
from holdfast.sdk.branch import Leaf, place

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Happened(Generic[T_co]):
    """The answer that a step has happened; its result is `value`, and it is not run again.

    As JSON `{"happened": true, "value": …}`, which is what a person answers who is asked.
    """

    value: T_co
    happened: bool = field(default=True, init=False)


@dataclass(frozen=True, slots=True)
class NotHappened:
    """The answer that a step has had no effect: it runs again. As JSON `{"happened": false}`."""

    happened: bool = field(default=False, init=False)


Verify: TypeAlias = Callable[
    ..., Awaitable[Happened[Any] | NotHappened] | Happened[Any] | NotHappened
]
"""Finds out what happened: called with the idempotency key of the step and its arguments."""

OnUnknown: TypeAlias = Literal["retry", "fail", "ask"] | Verify
"""What to do about a step whose outcome is unknown; see `Context.run`."""


def check_on_unknown(name: str, on_unknown: object) -> None:
    """Refuse what is no policy.

    Raises:
        UsageError: HF0507.
    """
    if on_unknown not in ("retry", "fail", "ask") and not callable(on_unknown):
        raise UsageError(
            f"ctx.run({name!r}, …): on_unknown must be 'retry', 'fail', 'ask' or a function that "
            f"finds out what happened, not {on_unknown!r}",
            code="HF0507",
        )


def idempotency_key() -> str:
    """Return the key of the running step, for services that take one: equal keys, one effect.

    The same on every attempt of this step of this invocation, and different for all other ones: 45
    characters of `a`–`z`, `0`–`9` and `_`. A step that is run again by a restart of its invocation
    as a new one has another key. Call it in the body of a step, in tasks that it makes, or in its
    thread.

    Raises:
        UsageError: HF0581, not in the body of a step.
    """
    leaf = place.get()
    if not isinstance(leaf, Leaf):
        raise UsageError(
            "hf.idempotency_key() outside of the body of a step",
            code="HF0581",
            hint="Call it in the function that is given to ctx.run.",
        )
    return idempotency_key_of(leaf.invocation_id, leaf.step_key)


def idempotency_key_of(invocation_id: str, step_key: str) -> str:
    """Return the idempotency key of a step, by its journal key."""
    # No part of an invocation id can be read from it: it is given to others.
    digest = hashlib.blake2b(f"{invocation_id}/{step_key}".encode(), digest_size=20)
    return f"step_{digest.hexdigest()}"
