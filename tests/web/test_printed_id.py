from __future__ import annotations

import pytest

from holdfast.web.printed_id import bad_id, checked_invocation_id
from holdfast.web.problem import Refusal

INVOCATION_ID = "inv_1foAirY4KKzi4pxC3cpRBM5n5x5yNFJAdV"


def test_passes_ids_as_they_are() -> None:
    assert checked_invocation_id(INVOCATION_ID) == INVOCATION_ID


@pytest.mark.parametrize("text", ["", "inv_1", INVOCATION_ID[:-1], "sign_" + INVOCATION_ID[4:]])
def test_refuses_malformed_ids(text: str) -> None:
    with pytest.raises(Refusal, match="is not an invocation id: expected inv_1 and 33") as caught:
        checked_invocation_id(text)
    assert (caught.value.status, caught.value.code) == (400, "HF1003")


def test_says_what_was_expected() -> None:
    message = "'x' is not an awakeable id: expected a y."
    assert bad_id("an awakeable", "x", "a y").message == message
