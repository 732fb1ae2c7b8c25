"""Ids that the same request gets on every server. The values are those of a real Restate server."""

from __future__ import annotations

from holdfast.domain.identity import derived_id, idempotent_id, workflow_id
from holdfast.domain.target import HandlerKind, Target


def test_idempotent_ids() -> None:
    keyed = idempotent_id(Target("Obj", "add", "k1"), "abc")
    assert keyed == "inv_1foAirY4KKzi4pxC3cpRBM5n5x5yNFJAdV"
    unkeyed = idempotent_id(Target("Svc", "echo"), "abc")
    assert unkeyed == "inv_1ePaCRNn06Ka5vW31AYuRQfeD3xkVMbWeM"


def test_workflow_ids() -> None:
    assert workflow_id("Wf", "k1") == "inv_1foAirY4KKzi3FyJqpVxiDUsWuxX3p32tU"


def test_what_a_request_says_about_its_id() -> None:
    target = Target("Wf", "run", "k1")
    assert derived_id(target, HandlerKind.WORKFLOW, None) == workflow_id("Wf", "k1")
    assert derived_id(target, HandlerKind.SHARED, None) is None
    assert derived_id(target, HandlerKind.SHARED, "abc") == idempotent_id(target, "abc")
    assert derived_id(Target("Svc", "echo"), HandlerKind.PLAIN, None) is None
