from __future__ import annotations

import pytest

from holdfast.admin.secret import HIDDEN, masked, without_secrets
from holdfast.domain.message import Call, Input, Run, Value


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "x-api-key",
        "api_key",
        "X-Auth-Token",
        "x-amz-security-token",
        "db-password",
        "client-secret",
        "aws-access-key",
        "apikey",
        "x-session",
    ],
)
def test_what_names_a_secret_is_hidden(name: str) -> None:
    assert masked(name, "s3cret") == HIDDEN


@pytest.mark.parametrize("name", ["content-type", "x-author", "x-partition-key", "traceparent"])
def test_the_rest_is_shown(name: str) -> None:
    assert masked(name, "plain") == "plain"


def test_entries_with_headers() -> None:
    headers = (("X-Api-Key", "s3cret"), ("a", "b"))
    hidden = (("X-Api-Key", HIDDEN), ("a", "b"))
    assert without_secrets(Input(Value(b""), headers)) == Input(Value(b""), hidden)
    call = Call("S", "run", b"", None, headers, None, 1, 2)
    assert without_secrets(call) == Call("S", "run", b"", None, hidden, None, 1, 2)
    assert without_secrets(Run(1)) == Run(1)
