"""Invocation ids that are pure functions of what was asked for."""

from __future__ import annotations

import hashlib

from holdfast.domain.ids import (
    InvocationId,
    idempotency_bucket,
    idempotent_unique_part,
    key_partition_key,
    print_invocation_id,
    service_partition_key,
)
from holdfast.domain.target import HandlerKind, Target


def idempotent_id(target: Target, idempotency_key: str) -> InvocationId:
    """Return the id of the invocation that this target and idempotency key stand for."""
    if target.key is None:
        partition_key = service_partition_key(target.service, idempotency_bucket(idempotency_key))
    else:
        partition_key = key_partition_key(target.key)
    unique = idempotent_unique_part(target.service, target.key, target.handler, idempotency_key)
    return print_invocation_id(partition_key.to_bytes(8, "big") + unique)


def workflow_id(workflow: str, key: str) -> InvocationId:
    """Return the id of the one run of a workflow key."""
    unique = hashlib.sha256(f"wf,{workflow},{key}".encode()).digest()[:16]
    return print_invocation_id(key_partition_key(key).to_bytes(8, "big") + unique)


def derived_id(
    target: Target, kind: HandlerKind, idempotency_key: str | None
) -> InvocationId | None:
    """Return the id that a request says itself; None: it asks for an invocation of its own.

    A workflow's main handler takes no idempotency key: its workflow key is one.
    """
    if kind is HandlerKind.WORKFLOW and target.key is not None:
        return workflow_id(target.service, target.key)
    return None if idempotency_key is None else idempotent_id(target, idempotency_key)
