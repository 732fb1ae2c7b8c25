"""Clients: invocations from outside of handlers."""

from holdfast.sdk.client import ClientBase, SyncClientBase
from holdfast.sdk.exchange import Exchange, Reply, Sent
from holdfast.sdk.http_client import Client, SyncClient
from holdfast.sdk.stream_client import Chunk, InvocationStream, Replaced

__all__ = [
    "Chunk",
    "Client",
    "ClientBase",
    "Exchange",
    "InvocationStream",
    "Replaced",
    "Reply",
    "Sent",
    "SyncClient",
    "SyncClientBase",
]
