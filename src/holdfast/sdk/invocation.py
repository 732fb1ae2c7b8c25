"""Ids of invocations that are pure functions of what was asked for."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, cast

from holdfast.domain.errors import UsageError
from holdfast.domain.identity import derived_id
from holdfast.domain.target import HandlerKind, Target
from holdfast.sdk.handler import Handler, split_target
from holdfast.sdk.serde import Serde, serde_for

T = TypeVar("T")
O = TypeVar("O")  # noqa: E741


class Invocation(str, Generic[T]):
    """The id of an invocation, which also knows the type of the result.

    A `str`: pass it wherever an invocation id is taken.
    """

    output: Serde[T]
    """How `attach` and `output` read the result."""


def invocation(
    handler: Handler[Any, O] | str,
    /,
    *,
    key: str | None = None,
    idempotency_key: str | None = None,
) -> Invocation[O]:
    """Return the id of an invocation by what makes it unique. No server is asked.

    With it, `attach`, `output`, `cancel` and signals reach an invocation whose id was never kept.

    Args:
        handler: The handler, or `"Service/handler"`; then without idempotency key it is taken for
            the main handler of a workflow.
        key: Of the object or workflow.
        idempotency_key: That the invocation was made with; none for the run of a workflow.

    Raises:
        UsageError: HF0521, what is given does not name one invocation.
    """
    if isinstance(handler, Handler):
        service, name, kind = handler.service, handler.name, handler.kind
        if handler.is_keyed != (key is not None):
            need = "needs key=" if handler.is_keyed else "takes no key="
            raise UsageError(f"{handler} {need}", code="HF0507")
    else:
        service, name = split_target(handler)
        kind = HandlerKind.WORKFLOW if idempotency_key is None else HandlerKind.EXCLUSIVE
    if kind is HandlerKind.WORKFLOW and idempotency_key is not None:
        raise UsageError(
            f"{service}/{name} runs once per key: it takes no idempotency_key=", code="HF0521"
        )
    found = derived_id(Target(service, name, key), kind, idempotency_key)
    if found is None:
        raise UsageError(
            f"{service}/{name} has many invocations, and nothing says which one is meant",
            code="HF0521",
            hint="Pass the idempotency_key= that it was called with, or keep the id that send "
            "returned.",
        )
    made: Invocation[O] = Invocation(found)
    made.output = handler.output if isinstance(handler, Handler) else serde_for(Any)
    return made


def result_serde(invocation_id: str, annotation: Any) -> Serde[Any]:
    """Return how to read the result of an invocation: by the annotation, or as its handler says."""
    if annotation is None and isinstance(invocation_id, Invocation):
        annotation = cast("Any", invocation_id).output
    return serde_for(Any if annotation is None else annotation)
