"""Ids that are the same behind every server of the protocol; seen at Restate's."""

from __future__ import annotations

import pytest

from holdfast.domain.identity import idempotent_id, workflow_id
from holdfast.domain.ids import awakeable_id, parse_awakeable_id, parse_invocation_id
from holdfast.domain.target import Target

WORKFLOW = "inv_1foAirY4KKzi3FyJqpVxiDUsWuxX3p32tU"


@pytest.mark.parametrize(
    ("found", "printed", "binary"),
    [
        (workflow_id("Wf", "k1"), WORKFLOW, "548ae3cba54055b39e2bb335210f1b67f5eadac7026a9878"),
        (
            idempotent_id(Target("Obj", "add", "k1"), "abc"),
            "inv_1foAirY4KKzi4pxC3cpRBM5n5x5yNFJAdV",
            "548ae3cba54055b3f74ed0bae0ec78257a316cd0ffa5f690",
        ),
        (
            idempotent_id(Target("Svc", "echo"), "abc"),
            "inv_1ePaCRNn06Ka5vW31AYuRQfeD3xkVMbWeM",
            "d642591f2f12aeac8454c184f43dd7c15b23a33d4e7935b5",
        ),
    ],
)
def test_ids_follow_from_what_is_asked_for(found: str, printed: str, binary: str) -> None:
    assert found == printed
    assert parse_invocation_id(found).hex() == binary


def test_awakeables_have_the_id_of_their_invocation_in_them() -> None:
    printed = "sign_1VIrjy6VAVbOeK7M1IQ8bZ_Xq2scCaph4AAAAEQ"
    assert awakeable_id(WORKFLOW, 17) == printed
    assert parse_awakeable_id(printed) == (WORKFLOW, 17)
    assert parse_awakeable_id(printed.replace("sign_", "prom_")) == (WORKFLOW, 17)
