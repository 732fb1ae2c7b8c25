"""What `test_kill` serves in a worker of its own: the agent of each client."""

from __future__ import annotations

import os

import holdfast as hf
from holdfast import ai

from .trip import CLIENTS

ai.instrument()
service = hf.Service("Trip")
ask = {client.__name__: client for client in CLIENTS}


@service.handler
async def run(ctx: hf.Context, client: str) -> str:
    return await ask[client](os.environ["MODEL_URL"])


app = hf.App(service)
