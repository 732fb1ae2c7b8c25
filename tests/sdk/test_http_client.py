"""Clients against a scripted HTTP server: routes, headers, errors, keep-alive."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import holdfast as hf
from holdfast.client import Sent
from holdfast.ingress.retry import parse_retry

from .loops import both_loops

cart = hf.VirtualObject("Cart")


@cart.handler
async def add(ctx: hf.Context, item: dict[str, int]) -> list[int]:
    return []


@dataclass
class Server:
    """Answers requests with what was scripted, in order; the last answer is repeated."""

    answers: list[tuple[int, dict[str, str], bytes]]
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    connections: int = 0
    drops: int = 0
    """How many requests end without an answer, on connections that were used before."""

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        await asyncio.sleep(0.01)

    def __post_init__(self) -> None:
        self._writers: list[asyncio.StreamWriter] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        is_used = False
        while line := (await reader.readline()).decode().strip():
            headers = {}
            while header := (await reader.readline()).decode().strip():
                name, _, value = header.partition(": ")
                headers[name.lower()] = value
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            if is_used and self.drops:
                self.drops -= 1
                break
            is_used = True
            self.requests.append((line, headers, body))
            status, answer_headers, answer = (
                self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            )
            lines = [f"HTTP/1.1 {status} X", f"content-length: {len(answer)}"]
            lines += [f"{name}: {value}" for name, value in answer_headers.items()]
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + answer)
            await writer.drain()
        writer.close()


class Both:
    """One interface over both clients."""

    def __init__(self, url: str, is_sync: bool, **options: Any) -> None:
        self.client: Any = hf.SyncClient(url, **options) if is_sync else hf.Client(url, **options)
        self.is_sync = is_sync

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self.client, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.is_sync:
                return await asyncio.to_thread(method, *args, **kwargs)
            return await method(*args, **kwargs)

        return call


sync_and_async = pytest.mark.parametrize("is_sync", [False, True], ids=["async", "sync"])


@sync_and_async
@both_loops
async def test_policies_and_times_of_a_request(is_sync: bool) -> None:
    sent = b'{"invocationId":"inv_1x","status":"Accepted"}'
    server = Server([(202, {}, sent)] * 3)
    async with server as url:
        client = Both(url, is_sync)
        policy = hf.RetryPolicy(max_attempts=3, max_duration=5, on_max_attempts="kill")
        later = datetime.now(UTC) + timedelta(hours=1)
        await client.send(add, {"a": 1}, key="k", retry=policy)
        await client.send(add, {"a": 1}, key="k", at=later)
        await client.send(add, {"a": 1}, key="k", at=datetime(2020, 1, 1, tzinfo=UTC))
        await client.close()
    (_, headers, _), (line, _, _), (past, _, _) = server.requests
    assert parse_retry(headers["holdfast-retry"]) == policy.to_schedule()
    delay_ms = int(line.split("delay=")[1].split("ms")[0])
    # Both times are cut to milliseconds, so the difference may be one more.
    assert 3_500_000 < delay_ms <= 3_600_001
    assert past.startswith("POST /Cart/k/add/send HTTP")


@sync_and_async
@both_loops
async def test_routes_and_headers(is_sync: bool) -> None:
    sent = b'{"invocationId":"inv_1x","status":"PreviouslyAccepted"}'
    server = Server(
        [
            (200, {"x-restate-id": "inv_1"}, b"[1]"),
            (202, {}, sent),
            (200, {}, b"[2]"),
            (470, {}, b"{}"),
            (200, {}, b""),
            (202, {}, b""),
            (202, {}, b""),
            (202, {}, b""),
            (202, {}, b""),
            (202, {}, b""),
            (200, {}, b'"text"'),
        ]
    )
    async with server as url:
        client = Both(url + "/base/", is_sync, admin_url=url, token="t")
        assert await client.call(
            add, {"a": 1}, key="k/ü", idempotency_key="i", headers={"X-A": "b"}
        ) == [1]
        assert await client.send(add, {"a": 1}, key="k", delay=1.5) == Sent("inv_1x", False)
        assert await client.attach("inv_1x", type=list[int]) == [2]
        assert await client.output("inv_1x", default="none") == "none"
        assert await client.output("inv_1x", default="none") is None
        await client.resolve("sign_1", {"ok": True})
        await client.reject("sign_1", "nö")
        await client.cancel("inv_1x")
        await client.signal("inv_1x", "a/b", [1])
        await client.reject_signal("inv_1x", "go", "nö")
        assert await client.call("Plain/echo", "x", type=str) == "text"
        await client.close()
    lines = [line.removesuffix(" HTTP/1.1") for line, _, _ in server.requests]
    assert lines == [
        "POST /base/Cart/k%2F%C3%BC/add",
        "POST /base/Cart/k/add/send?delay=1500ms",
        "GET /base/restate/invocation/inv_1x/attach",
        "GET /base/restate/invocation/inv_1x/output",
        "GET /base/restate/invocation/inv_1x/output",
        "POST /base/restate/awakeables/sign_1/resolve",
        "POST /base/restate/awakeables/sign_1/reject",
        "PATCH /invocations/inv_1x/cancel",
        "POST /base/holdfast/v1/invocations/inv_1x/signals/a%2Fb",
        "POST /base/holdfast/v1/invocations/inv_1x/signals/go/reject",
        "POST /base/Plain/echo",
    ]
    _, headers, body = server.requests[0]
    assert (headers["idempotency-key"], headers["x-a"]) == ("i", "b")
    assert (headers["content-type"], headers["authorization"]) == ("application/json", "Bearer t")
    assert body == b'{"a":1}'
    assert server.requests[6][2] == server.requests[9][2] == "nö".encode()
    assert server.requests[8][2] == b"[1]"
    # One for the ingress, one for the admin API; the same address, but another base.
    assert server.connections <= 2


@sync_and_async
@both_loops
async def test_failures_of_invocations_and_of_requests(is_sync: bool) -> None:
    ours = {"x-restate-error-source": "invocation", "x-restate-id": "inv_1"}
    server = Server(
        [
            (418, ours, b'{"code":1418,"message":"no","metadata":{"a":"b"}}'),
            (200, ours, b'{"code":200,"message":"odd"}'),
            (404, {}, b'{"code":"HF1001","message":"no service X","hint":"Y"}'),
            (404, {}, b'{"code":404,"error_code":"HF1002","message":"no handler","hint":"Y"}'),
            (400, {}, b"plain text"),
            (409, {}, b"{}"),
            (503, {}, b"{}"),
            (200, {}, b'"not a list"'),
        ]
    )
    async with server as url:
        client = Both(url, is_sync)

        async def failing(kind: type[Exception]) -> Any:
            with pytest.raises(kind) as caught:
                await client.call(add, {}, key="k")
            return caught.value

        error = await failing(hf.TerminalError)
        assert (error.code, error.message, error.metadata) == (1418, "no", {"a": "b"})
        assert (await failing(hf.TerminalError)).code == 200
        assert str(await failing(hf.NotFoundError)) == (
            "call Cart/k/add was refused: no service X (HTTP 404) [HF1001]\n  hint: Y"
        )
        assert str(await failing(hf.NotFoundError)).endswith("(HTTP 404) [HF1002]\n  hint: Y")
        assert "plain text (HTTP 400)" in str(await failing(hf.UsageError))
        await failing(hf.ConflictError)
        await failing(hf.TransportError)
        error = await failing(hf.SerdeError)
        assert "Expected `array`, got `str`" in str(error)
        with pytest.raises(hf.UsageError, match="Pass admin_url="):
            await client.cancel("inv_1")
        with pytest.raises(hf.UsageError, match="line break"):
            await client.call(add, {}, key="k", headers={"a": "b\r\nc: d"})
        await client.close()


@sync_and_async
@both_loops
async def test_lost_connections(is_sync: bool) -> None:
    server = Server([(200, {}, b"[1]")], drops=1)
    async with server as url:
        client = Both(url, is_sync)
        await client.call(add, {}, key="k")
        # A stale connection: safe to repeat.
        assert await client.call(add, {}, key="k", idempotency_key="i") == [1]
        server.drops = 1
        with pytest.raises(hf.TransportError, match="repeat it with an idempotency key"):
            await client.call(add, {}, key="k")
        await client.close()
        assert server.connections == 2
    client = Both("http://127.0.0.1:1", is_sync)
    with pytest.raises(hf.TransportError, match=r"connection to http://127\.0\.0\.1:1 failed"):
        await client.call(add, {}, key="k")


def test_bad_addresses() -> None:
    with pytest.raises(hf.UsageError, match="is no address of a server"):
        hf.Client("localhost:8080")


@both_loops
async def test_a_wait_that_is_given_up_closes_its_connection() -> None:
    server = Server([(200, {}, b"[1]")])
    async with server as url, hf.Client(url) as client:
        server._server.close()
        gate = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(1000):
                pass
            writer.close()
            gate.set()

        other = await asyncio.start_server(silent, "127.0.0.1", 0)
        waiting = hf.Client(f"http://127.0.0.1:{other.sockets[0].getsockname()[1]}")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waiting.call(add, {}, key="k"), 0.05)
        await gate.wait()
        other.close()
        assert client is not waiting


@sync_and_async
@both_loops
@pytest.mark.parametrize(
    "options",
    [
        {"idempotency_key": "a\r\nx-evil: 1"},
        {"idempotency_key": "☃"},
        {"headers": {"content-length": "0"}},
        {"headers": {"Transfer-Encoding": "chunked"}},
        {"headers": {"a b": "c"}},
        {"headers": {"a": "☃"}},
        {"headers": {"": "c"}},
    ],
)
async def test_what_would_not_arrive_as_one_header_is_refused(
    options: dict[str, Any], is_sync: bool
) -> None:
    server = Server([(200, {}, b"[]")])
    async with server as url:
        client = Both(url, is_sync)
        with pytest.raises(hf.UsageError, match="HF0507"):
            await client.call(add, {"a": 1}, key="k", **options)
        with pytest.raises(hf.UsageError, match="HF0507"):
            await Both(url, is_sync, token="a\r\nb").call(add, {"a": 1}, key="k")
        await client.close()
    assert not server.requests


@pytest.mark.parametrize(
    "url", ["http://a:99999", "http://a:x", "http://[::1", "ftp://a", "http://", "http://a/b c"]
)
def test_what_is_no_address(url: str) -> None:
    for make in (hf.Client, hf.SyncClient):
        with pytest.raises(hf.UsageError, match="no address"):
            make(url)
