"""Connections that end early: the client leaves, or is told not to send on."""

from __future__ import annotations

import asyncio

from holdfast.web.asgi import Receive, Response, Send

_LINGER_S = 2.0
"""How long a refused upload is read and thrown away before the connection is closed."""


class ClientGone(Exception):
    """The client has closed its connection; nobody is left to answer."""


async def send_last_response(receive: Receive, send: Send, response: Response) -> None:
    """Send a response while the client may still be sending, then close the connection.

    Closing at once would reset the connection, and the client could lose the answer that tells it
    what is wrong. So what still comes is read for a moment and thrown away.
    """
    status, headers, body = response
    headers += ((b"content-length", b"%d" % len(body)), (b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    try:
        async with asyncio.timeout(_LINGER_S):
            while (await receive()).get("more_body", False):
                pass
    except TimeoutError:
        # The client sends on regardless: it has had its chance to read the answer.
        pass
    await send({"type": "http.response.body", "body": b""})
