from __future__ import annotations

import pytest

from holdfast.domain.errors import RemoteProtocolError
from holdfast.protocol.restate.discovery import (
    DISCOVERY_ACCEPT,
    DiscoveryError,
    check_manifest_media_type,
    choose_manifest_version,
    manifest_media_type,
)


def test_all_versions_are_offered_in_ascending_order() -> None:
    assert DISCOVERY_ACCEPT == (
        "application/vnd.restate.endpointmanifest.v1+json, "
        "application/vnd.restate.endpointmanifest.v2+json, "
        "application/vnd.restate.endpointmanifest.v3+json, "
        "application/vnd.restate.endpointmanifest.v4+json"
    )


@pytest.mark.parametrize(
    ("accept", "version"),
    [
        (DISCOVERY_ACCEPT, 4),
        (f"{manifest_media_type(2)},{manifest_media_type(3)}", 3),
        (manifest_media_type(1), 1),
        (f"{manifest_media_type(2)}, {manifest_media_type(99)}", 2),
        (manifest_media_type(3).upper(), 3),
        ("*/*", 4),
        (None, 4),
    ],
)
def test_the_highest_version_that_is_offered_is_served(accept: str | None, version: int) -> None:
    assert choose_manifest_version(accept) == version


@pytest.mark.parametrize("accept", ["", "application/json", manifest_media_type(5)])
def test_without_a_known_version_nothing_is_served(accept: str) -> None:
    with pytest.raises(RemoteProtocolError, match="has manifests of versions 1 to 4") as caught:
        choose_manifest_version(accept)
    assert caught.value.code == "HF1332"


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_answers_of_all_versions_are_taken(version: int) -> None:
    check_manifest_media_type(manifest_media_type(version))
    check_manifest_media_type(f"{manifest_media_type(version)}; charset=utf-8")


@pytest.mark.parametrize(
    "content_type", [None, "", "application/json", manifest_media_type(0), manifest_media_type(5)]
)
def test_answers_of_another_type_are_refused(content_type: str | None) -> None:
    with pytest.raises(DiscoveryError, match="The endpoint answers with content type") as caught:
        check_manifest_media_type(content_type)
    assert (caught.value.code, caught.value.restate_code) == ("HF1326", "META0013")
    assert caught.value.status == 500
