"""Whole request bodies, for routes of ours."""

from __future__ import annotations

from holdfast.web.asgi import Receive
from holdfast.web.problem import Refusal


async def read_body(receive: Receive, size_max: int) -> bytes:
    """Read a whole body.

    Args:
        receive: Of the ASGI application.
        size_max: Largest body in bytes.

    Raises:
        Refusal: HF1259, it is larger, or the client went away before it was complete.
    """
    parts: list[bytes] = []
    size = 0
    is_more = True
    while is_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refusal(400, "HF1259", "The client went away in the middle of its body.")
        part: bytes = message.get("body", b"")
        parts.append(part)
        size += len(part)
        is_more = message.get("more_body", False)
        if size > size_max:
            raise Refusal(
                413,
                "HF1259",
                f"The body has more than {size_max} bytes.",
                hint="Split the request into several.",
            )
    return b"".join(parts)
