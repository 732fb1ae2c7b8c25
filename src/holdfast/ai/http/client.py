"""HTTP clients whose model calls are durable, to hand to the clients of providers."""

from __future__ import annotations

import functools
import importlib
from importlib.util import find_spec
from typing import Any, Literal, TypeAlias

from holdfast.ai.http.httpx_hook import durable_send, durable_send_sync
from holdfast.domain.errors import UsageError

Library: TypeAlias = Literal["httpx", "httpx2"]


def http_client(library: Library | None = None, **options: Any) -> Any:
    """Return an `AsyncClient` whose model calls are durable in handlers.

    Everything else passes as it is, also outside of handlers:

        client = openai.AsyncOpenAI(http_client=holdfast.ai.http_client())

    Args:
        library: `httpx2`, which the newer clients use, or `httpx`. `None` takes what is installed,
            `httpx2` first.
        **options: Of `AsyncClient`, such as `timeout` and `proxy`.

    Raises:
        UsageError: HF0600, the library is not installed.
    """
    client: Any = _client_type(_chosen(library), is_async=True)
    return client(**{"follow_redirects": True, **options})


def sync_http_client(library: Library | None = None, **options: Any) -> Any:
    """Return a `Client` whose model calls are durable in handlers that are no `async def`.

    In an async handler use it in `asyncio.to_thread` only.

    Args:
        library: As for `http_client`.
        **options: Of `Client`.

    Raises:
        UsageError: HF0600, the library is not installed.
    """
    client: Any = _client_type(_chosen(library), is_async=False)
    return client(**{"follow_redirects": True, **options})


def _chosen(library: Library | None) -> str:
    wanted = ("httpx2", "httpx") if library is None else (library,)
    for name in wanted:
        if name in ("httpx2", "httpx") and find_spec(name) is not None:
            return name
    raise UsageError(
        f"There is no {' and no '.join(wanted)} here to make a client of",
        code="HF0600",
        hint=f"Install it: pip install {wanted[0]}",
    )


@functools.cache
def _client_type(library: str, *, is_async: bool) -> type[Any]:
    module: Any = importlib.import_module(library)
    base: Any = module.AsyncClient if is_async else module.Client
    # The method of the class and not a copy of it: `instrument` may replace it later, and then one
    # of the two lets the other's requests pass.
    if is_async:

        async def send_on(client: Any, request: Any, **options: Any) -> Any:
            return await base.send(client, request, **options)

        return type("DurableAsyncClient", (base,), {"send": durable_send(send_on, module)})

    def send_on_sync(client: Any, request: Any, **options: Any) -> Any:
        return base.send(client, request, **options)

    return type("DurableClient", (base,), {"send": durable_send_sync(send_on_sync, module)})
