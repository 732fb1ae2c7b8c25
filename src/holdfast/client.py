"""Clients: invocations from outside of handlers."""

from holdfast.sdk.client import ClientBase, Exchange, Reply, Sent, SyncClientBase
from holdfast.sdk.http_client import Client, SyncClient

__all__ = ["Client", "ClientBase", "Exchange", "Reply", "Sent", "SyncClient", "SyncClientBase"]
