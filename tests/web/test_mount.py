from __future__ import annotations

import pytest

from holdfast.web.asgi import Receive, Scope, Send
from holdfast.web.mount import mounted


async def outer(scope: Scope, receive: Receive, send: Send) -> None:
    raise NotImplementedError


async def inner(scope: Scope, receive: Receive, send: Send) -> None:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("path", "app"),
    [
        ("/a", outer),
        ("/a/x", outer),
        ("/a/", outer),
        ("/a/b", inner),
        ("/a/b/c/d", inner),
        ("/a/bc", outer),
        ("/ab", None),
        ("/", None),
        ("", None),
        ("a", None),
    ],
)
def test_the_deepest_application_wins(path: str, app: object) -> None:
    assert mounted({"/a": outer, "/a/b": inner}, path) is app
