"""Clients: invocations from outside of handlers."""

from holdfast.sdk.client import ClientBase, SyncClientBase
from holdfast.sdk.exchange import Exchange, Reply, Sent
from holdfast.sdk.http_client import Client, SyncClient

__all__ = ["Client", "ClientBase", "Exchange", "Reply", "Sent", "SyncClient", "SyncClientBase"]
