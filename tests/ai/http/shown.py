"""What readers of an invocation's stream see in the end."""

from __future__ import annotations

import json

from holdfast.server.handle import Finished
from holdfast.testing import Environment


async def shown_text(env: Environment, invocation_id: str) -> str:
    """Return the text of the default stream, without what readers were told to forget."""
    reader = await env._host.streams.open(invocation_id, "default")
    chunks: list[tuple[int, bytes]] = []
    after = 0
    try:
        while True:
            page = await reader.next(after, 10.0)
            assert page is not None
            if isinstance(page, Finished):
                break
            after = page.last_id
            for _, row in page.rows:
                if not row.chunks:
                    chunks = [chunk for chunk in chunks if chunk[0] != row.lane]
                chunks += [(row.lane, chunk) for chunk in row.chunks]
    finally:
        reader.close()
    return "".join(json.loads(chunk)["delta"] for _, chunk in chunks)
