"""Handlers as a function of AWS Lambda, which a server invokes one attempt at a time."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from holdfast.domain.errors import UsageError
from holdfast.sdk.app import App

if TYPE_CHECKING:
    from holdfast.transport.http.handler_exchange import Message, Receive

_CODE = "HF1388"


class LambdaResponse(TypedDict):
    """What a function answers."""

    statusCode: int
    headers: dict[str, str]
    isBase64Encoded: bool
    body: str


class LambdaHandler:
    """What AWS Lambda calls. Made by `lambda_handler`."""

    def __init__(self, app: App) -> None:
        self._app = app
        # One loop for all calls: executors and clients of the handlers live on it.
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)

    def __call__(self, event: Mapping[str, Any], context: object) -> LambdaResponse:
        """Answer one event.

        Raises:
            UsageError: HF1388, the event is not a request of a server.
        """
        return self._runner.run(_respond(self._app, event))

    def close(self) -> None:
        """Close the event loop. AWS Lambda never does; tests should. Idempotent."""
        self._runner.close()


def lambda_handler(app: App) -> LambdaHandler:
    """Return the function that AWS Lambda calls: `handler = hf.lambda_handler(app)`.

    An attempt runs until it has to wait; then the function returns, and is called again when there
    is more to do. Nothing runs, and nothing is paid, while an invocation waits.

    Args:
        app: The handlers.

    Returns:
        A function of event and context. The event has `path`, `httpMethod`, `headers` and `body`.
    """
    return LambdaHandler(app)


async def _respond(app: App, event: Mapping[str, Any]) -> LambdaResponse:
    scope, body = _read_event(event)
    response: LambdaResponse = {
        "statusCode": 500,
        "headers": {},
        "isBase64Encoded": True,
        "body": "",
    }
    collected = bytearray()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            response["statusCode"] = message["status"]
            response["headers"] = {
                name.decode(): text.decode() for name, text in message["headers"]
            }
        else:
            collected.extend(message.get("body", b""))

    await app(scope, _receiver(body), send)
    response["body"] = base64.b64encode(collected).decode()
    return response


def _read_event(event: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Return ASGI scope and body.

    Raises:
        UsageError: HF1388.
    """
    try:
        path, method = str(event["path"]), str(event["httpMethod"])
        given: Mapping[str, object] = event.get("headers") or {}
        headers = {str(name).lower(): str(text) for name, text in given.items()}
        body: str = event.get("body") or ""
        content = (
            base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode()
        )
    except (KeyError, TypeError, AttributeError, ValueError, binascii.Error) as error:
        raise UsageError(
            f"The event is not an HTTP request of a server: {error!r}",
            code=_CODE,
            hint="Register the function at a server by its ARN; nothing else can call it.",
        ) from error
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), text.encode()) for name, text in headers.items()],
        "client": None,
        "server": None,
    }
    return scope, content


def _receiver(body: bytes) -> Receive:
    is_read = False

    async def receive() -> Message:
        nonlocal is_read
        if is_read:
            # Nobody hangs up: the function ends with its response.
            await asyncio.get_running_loop().create_future()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
