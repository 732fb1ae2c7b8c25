"""Makes clients of model providers durable below any framework: at their HTTP requests.

In a handler, a request that is a model call is one durable step: its answer is recorded, and a
replay gets the recorded one. Inside the body of a step, and so inside the model calls of the
framework modules, it is only observed and described.
"""

from __future__ import annotations

from holdfast.ai.http.client import http_client, sync_http_client
from holdfast.ai.http.hook import instrument, uninstrument

__all__ = ["http_client", "instrument", "sync_http_client", "uninstrument"]
