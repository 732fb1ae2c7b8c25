"""Bodies: how they are read, and what a handler accepts."""

from __future__ import annotations

from functools import lru_cache

from holdfast.domain.target import HandlerManifest
from holdfast.ingress.hangup import ClientGone
from holdfast.ingress.json_check import check_json
from holdfast.ingress.problem import IngressRefusal
from holdfast.web.asgi import Receive
from holdfast.web.problem import Refusal, shown

JSON = "application/json"


async def read_body(receive: Receive, declared_size: int | None, size_max: int) -> bytes:
    """Read a whole body.

    Args:
        receive: Of the ASGI application.
        declared_size: Value of Content-Length, None when there is none.
        size_max: Largest body in bytes.

    Raises:
        ClientGone: The client went away before the body was complete; nothing has begun.
        Refusal: HF1028 too large, found as early as possible; HF1029 not of its declared size.
    """
    if declared_size is not None and declared_size > size_max:
        raise _too_large(f"{declared_size} bytes", size_max)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        body = await _read_rest(receive, body, size_max)
    elif len(body) > size_max:
        raise _too_large(f"{len(body)} bytes", size_max)
    if declared_size is not None and declared_size != len(body):
        raise Refusal(
            400,
            "HF1029",
            f"Content-Length says {declared_size} bytes, but {len(body)} came.",
            hint="Let the HTTP library compute Content-Length.",
        )
    return body


async def _read_rest(receive: Receive, first: bytes, size_max: int) -> bytes:
    parts = [first]
    size = len(first)
    is_more = True
    while is_more:
        if size > size_max:
            raise _too_large(f"more than {size_max} bytes", size_max)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part: bytes = message.get("body", b"")
        parts.append(part)
        size += len(part)
        is_more = message.get("more_body", False)
    if size > size_max:
        raise _too_large(f"{size} bytes", size_max)
    return b"".join(parts)


def _too_large(found: str, size_max: int) -> IngressRefusal:
    return IngressRefusal(
        413,
        "HF1028",
        f"The body has {found}; at most {size_max} are allowed.",
        hint="Store large data elsewhere and send a reference, or raise the server's body limit.",
        is_body_unread=True,
    )


def check_input(
    manifest: HandlerManifest, content_type: str | None, encoding: str | None, body: bytes
) -> None:
    """Refuse a body that the handler does not accept.

    Schemas are not checked here: the handler's SDK does, and answers with a terminal 400.

    Args:
        manifest: Of the handler.
        content_type: Value of the Content-Type header.
        encoding: Value of the Content-Encoding header.
        body: The whole body.

    Raises:
        Refusal: HF1020 … HF1027.
    """
    accepted = manifest.input_content_type
    if not accepted:
        if body or content_type is not None:
            raise _not_taken(manifest.name, content_type, body)
    elif body:
        if content_type is None or not _matches(accepted, content_type):
            raise _wrong_type(manifest.name, accepted, content_type)
        if accepted == JSON:
            if encoding is not None and encoding.lower() != "identity":
                raise _encoded(encoding)
            check_json(body)
    elif manifest.is_input_required and manifest.input_schema is not None:
        raise Refusal(
            400,
            "HF1020",
            f"Handler {manifest.name} needs input, and the body is empty.",
            hint=f"Send a body with content-type: {accepted}.",
        )
    elif content_type is None:
        if manifest.is_input_required:
            raise _wrong_type(manifest.name, accepted, None)
    elif not _matches(accepted, content_type):
        raise _wrong_type(manifest.name, accepted, content_type)


# Clients choose the header, so the cache is bounded; in practice a handful of pairs occur.
@lru_cache(maxsize=512)
def _matches(accepted: str, content_type: str) -> bool:
    given = content_type.partition(";")[0].strip().lower()
    kind, slash, _ = given.partition("/")
    wanted = accepted.lower()
    return bool(slash) and wanted in ("*/*", f"{kind}/*", given)


def _wrong_type(handler: str, accepted: str, content_type: str | None) -> Refusal:
    found = "none was sent" if content_type is None else f"found {shown(content_type)}"
    return Refusal(
        400,
        "HF1026",
        f"Handler {handler} takes content-type {accepted}; {found}.",
        hint=f"Add the header content-type: {'text/plain' if accepted == '*/*' else accepted}.",
    )


def _not_taken(handler: str, content_type: str | None, body: bytes) -> Refusal:
    found = f"a body of {len(body)} bytes" if body else f"content-type {shown(content_type or '')}"
    return Refusal(
        400,
        "HF1021",
        f"Handler {handler} takes no input; found {found}.",
        hint="Send neither a body nor a content-type header.",
    )


def _encoded(encoding: str) -> Refusal:
    return Refusal(
        415,
        "HF1027",
        f"Content-Encoding {shown(encoding)} is not supported.",
        hint="Send the body uncompressed.",
        headers=((b"accept-encoding", b"identity"),),
    )
