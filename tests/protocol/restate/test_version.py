from __future__ import annotations

import pytest

from holdfast.domain.errors import RemoteProtocolError
from holdfast.protocol.restate.version import (
    agree_on_version,
    invocation_media_type,
    parse_invocation_media_type,
)


@pytest.mark.parametrize(
    ("low", "high", "own", "expected"),
    [
        (5, 7, 6, 6),
        (5, 7, 7, 7),
        (5, 5, 6, 5),
        (6, 6, 6, 6),
        (1, 5, 6, 5),
        (1, 4, 6, None),
        (7, 7, 6, None),
        (8, 9, 7, None),
    ],
)
def test_the_highest_common_version_is_chosen(
    low: int, high: int, own: int, expected: int | None
) -> None:
    assert agree_on_version(low, high, own) == expected


@pytest.mark.parametrize("version", [5, 6, 7])
def test_media_types_name_the_version(version: int) -> None:
    assert parse_invocation_media_type(invocation_media_type(version)) == version
    assert parse_invocation_media_type(f"{invocation_media_type(version)}; charset=x") == version


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "6",
        "application/json",
        "application/vnd.restate.invocation.v4",
        "application/vnd.restate.invocation.v8",
        "application/vnd.restate.invocation.v06",
        "application/vnd.restate.invocation.v",
    ],
)
def test_other_content_types_are_refused(content_type: str | None) -> None:
    with pytest.raises(RemoteProtocolError, match="a version N from 5 to 7") as caught:
        parse_invocation_media_type(content_type)
    assert caught.value.code == "HF1331"
