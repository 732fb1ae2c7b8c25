from __future__ import annotations

import pytest

from holdfast.domain.address import check_headers, parse_uri, url_of
from holdfast.domain.errors import UsageError


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("http://127.0.0.1:9080", "http://127.0.0.1:9080/"),
        ("HTTP://Example.COM:80/", "http://example.com/"),
        ("https://h:443/a b", None),
        ("https://h:443/ä", "https://h/%C3%A4"),
        ("https://h/a%2Fb/?x=1&y=%20", "https://h/a%2Fb/?x=1&y=%20"),
        ("http://[::1]:9080/x", "http://[::1]:9080/x"),
        ("127.0.0.1:9080", None),
        ("ftp://h/", None),
        ("http://", None),
        ("http://:80/", None),
        ("http://h:99999/", None),
        ("http://h:x/", None),
        ("http://user:secret@h/", None),
        ("http://h/#part", None),
        ("http://h/\r\nx: y", None),
        ("http://[::1", None),
        ("arn:aws:lambda:eu:1:function:f", None),
        ("", None),
    ],
)
def test_addresses_of_endpoints(text: str, uri: str | None) -> None:
    if uri is not None:
        assert parse_uri(text) == uri
        assert parse_uri(uri) == uri
        return
    with pytest.raises(UsageError) as caught:
        parse_uri(text)
    assert caught.value.code == "HF1281"
    assert "secret" not in str(caught.value)


def test_paths_go_below_the_address_and_the_query_stays_behind() -> None:
    assert url_of("http://h/", "discover") == "http://h/discover"
    assert url_of("http://h/base?x=1", "invoke/S/h") == "http://h/base/invoke/S/h?x=1"
    assert url_of("http://h/base//", "discover") == "http://h/base/discover"


def test_headers_are_taken_by_lower_case_name() -> None:
    assert check_headers({"Authorization": "Bearer x", "X-Tenant": " t "}) == {
        "authorization": "Bearer x",
        "x-tenant": "t",
    }


@pytest.mark.parametrize(
    "headers",
    [
        {"": "x"},
        {"a b": "x"},
        {"a": "x\r\nb: y"},
        {"a": "ä"},
        {"Content-Type": "text/plain"},
        {"host": "h"},
        {"X-Restate-Invocation-Id": "x"},
        {f"x-{n}": "" for n in range(65)},
        {"a": "x" * 9000},
    ],
)
def test_headers_that_cannot_be_sent(headers: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        check_headers(headers)
    assert caught.value.code == "HF1282"
