"""An app as an ASGI application, mounted and configured as people do it, and on AWS Lambda."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

import holdfast as hf
from holdfast.domain.message import End, Input, Output, Start, Suspension, Value
from holdfast.protocol.restate.codec import Codec
from holdfast.protocol.restate.frame import FrameDecoder

from .fake_server import ID

CODEC = Codec(6, is_keyed=True)
INVOKE = {"content-type": "application/vnd.restate.invocation.v6"}
KEY = "publickeyv1_" + "1" * 32

greeter = hf.Service("Greeter")


@greeter.handler
async def greet(ctx: hf.Context, name: str) -> str:
    return f"Hello {name}"


@greeter.handler
async def step(ctx: hf.Context) -> str:
    return await ctx.run("step", lambda: "done")


def journal(handler: str) -> bytes:
    start = Start(ID, "Greeter", handler, "", 1, {}, True, 0, 0, 42)
    content = b'"Ada"' if handler == "greet" else b""
    return CODEC.encode_start(start) + CODEC.encode(Input(Value(content)))


def messages(body: bytes) -> list[Any]:
    decoder = FrameDecoder()
    decoder.feed(body)
    found = []
    while (frame := decoder.next_frame()) is not None:
        found.append(CODEC.decode_from_handler(frame))
    return found


async def ask(
    app: Any, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> tuple[int, bytes]:
    """Ask an ASGI application as a server of HTTP/1.1 does."""
    incoming: asyncio.Queue[Any] = asyncio.Queue()
    incoming.put_nowait({"type": "http.request", "body": body, "more_body": False})
    status, answer = 0, bytearray()

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)
        answer.extend(message.get("body", b""))

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "http_version": "1.1",
        "scheme": "http",
        "headers": [(n.encode(), v.encode()) for n, v in (headers or {}).items()],
        "client": None,
        "server": None,
    }
    async with asyncio.timeout(5):
        await app(scope, incoming.get, send)
    return status, bytes(answer)


async def test_an_app_is_an_asgi_application() -> None:
    app = hf.App(greeter)
    status, body = await ask(app, "GET", "/discover")
    assert status == 200
    assert json.loads(body)["protocolMode"] == "REQUEST_RESPONSE"
    status, body = await ask(app, "POST", "/invoke/Greeter/greet", INVOKE, journal("greet"))
    assert status == 200
    assert messages(body) == [Output(Value(b'"Hello Ada"'), "", "output#0"), End()]
    status, body = await ask(app, "POST", "/invoke/Greeter/step", INVOKE, journal("step"))
    # Without anybody to record the result, the attempt cannot go on.
    assert messages(body)[-1] == Suspension((1,), (1,))


async def test_an_app_can_be_mounted() -> None:
    pytest.importorskip("starlette", reason="starlette comes with openai-agents")
    from starlette.applications import Starlette
    from starlette.routing import Mount

    site = Starlette(routes=[Mount("/agents", app=hf.App(greeter))])
    assert (await ask(site, "GET", "/agents/health"))[0] == 200
    assert (await ask(site, "GET", "/health"))[0] == 404
    path = "/agents/invoke/Greeter/greet"
    status, body = await ask(site, "POST", path, INVOKE, journal("greet"))
    assert status == 200
    assert messages(body)[-1] == End()


async def test_keys_come_from_the_app_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_IDENTITY_KEYS", f"{KEY} {KEY}")
    assert (await ask(hf.App(greeter), "GET", "/discover"))[0] == 401
    assert (await ask(hf.App(greeter, identity_keys=[]), "GET", "/discover"))[0] == 200
    monkeypatch.setenv("HOLDFAST_IDENTITY_KEYS", "")
    assert (await ask(hf.App(greeter), "GET", "/discover"))[0] == 200
    assert (await ask(hf.App(greeter, identity_keys=[KEY]), "GET", "/discover"))[0] == 401


async def test_a_key_that_is_none() -> None:
    with pytest.raises(hf.UsageError) as caught:
        hf.App(greeter).endpoint(["secret"])
    assert caught.value.code == "HF1372"


# -- AWS Lambda ------------------------------------------------------------------------------------


def event(method: str, path: str, body: bytes = b"", **headers: str) -> dict[str, Any]:
    return {
        "httpMethod": method,
        "path": path,
        "headers": headers,
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


@pytest.fixture
def handler() -> Iterator[Any]:
    handler = hf.lambda_handler(hf.App(greeter))
    yield handler
    handler.close()


def test_lambda(handler: Any) -> None:
    found = handler(event("GET", "/discover"), None)
    assert found["statusCode"] == 200
    assert found["headers"]["x-restate-server"].startswith("holdfast/")
    assert json.loads(base64.b64decode(found["body"]))["protocolMode"] == "REQUEST_RESPONSE"
    for _ in range(2):
        invoked = handler(
            event(
                "POST",
                "/invoke/Greeter/greet",
                journal("greet"),
                **{"Content-Type": INVOKE["content-type"]},
            ),
            None,
        )
        assert invoked["statusCode"] == 200
        assert invoked["isBase64Encoded"]
        assert invoked["headers"]["content-type"] == INVOKE["content-type"]
        assert messages(base64.b64decode(invoked["body"]))[-1] == End()


def test_lambda_without_body_and_headers(handler: Any) -> None:
    found = handler({"httpMethod": "GET", "path": "/health", "body": None, "headers": None}, None)
    assert found["statusCode"] == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"path": "/discover"},
        {"httpMethod": "GET", "path": "/", "body": "%", "isBase64Encoded": True},
        {"httpMethod": "GET", "path": "/", "headers": "none"},
    ],
)
def test_lambda_refuses_other_events(wrong: dict[str, Any], handler: Any) -> None:
    with pytest.raises(hf.UsageError) as caught:
        handler(wrong, None)
    assert caught.value.code == "HF1388"
