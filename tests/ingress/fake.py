"""A server that remembers what it was asked, and a client that speaks ASGI without sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from holdfast.domain.errors import NotFoundError
from holdfast.domain.ids import deployment_id_of
from holdfast.domain.message import Signal, Value
from holdfast.domain.target import (
    HandlerKind,
    HandlerManifest,
    Manifest,
    ServiceKind,
    ServiceManifest,
)
from holdfast.engine.decision import Answer, Reply
from holdfast.engine.row import HandlerRow, InvocationRow, JournalRow, StateEdit, StateRow
from holdfast.server.handle import Accepted, Finished, Request
from holdfast.storage.base import InvocationFilter, StoredDeployment
from holdfast.transport.base import HandlerPort
from holdfast.web.asgi import ASGIApp, Message, Scope

NOW_MS = 1_769_860_800_000
"""2026-01-31T12:00:00Z."""

INVOCATION_ID = "inv_1foAirY4KKzi4pxC3cpRBM5n5x5yNFJAdV"
AWAKEABLE_ID = "sign_1VIrjy6VAVbOeK7M1IQ8bZ_Xq2scCaph4AAAAEQ"
BODY_SIZE_BYTES_MAX = 1_000_000


def _plain(name: str, **options: Any) -> HandlerManifest:
    return HandlerManifest(name=name, kind=HandlerKind.PLAIN, **options)


SERVICES = (
    ServiceManifest(
        name="Cart",
        kind=ServiceKind.VIRTUAL_OBJECT,
        documentation="A cart.",
        handlers=(
            HandlerManifest(
                name="add", kind=HandlerKind.EXCLUSIVE, input_schema={"type": "object"}
            ),
            HandlerManifest(name="total", kind=HandlerKind.SHARED, input_content_type=""),
            HandlerManifest(name="send", kind=HandlerKind.EXCLUSIVE, is_input_required=False),
        ),
    ),
    ServiceManifest(
        name="Counter",
        kind=ServiceKind.VIRTUAL_OBJECT,
        handlers=(HandlerManifest(name="bump", kind=HandlerKind.EXCLUSIVE, input_content_type=""),),
    ),
    ServiceManifest(
        name="Greeter",
        kind=ServiceKind.SERVICE,
        handlers=(
            _plain("greet"),
            _plain("maybe", is_input_required=False),
            _plain("ping", input_content_type="", output_content_type=""),
            _plain("upload", input_content_type="*/*", output_content_type="text/plain"),
            _plain("picture", input_content_type="image/*", is_input_required=False),
            _plain("hidden", is_private=True),
        ),
    ),
    ServiceManifest(
        name="Signup",
        kind=ServiceKind.WORKFLOW,
        handlers=(
            HandlerManifest(
                name="run", kind=HandlerKind.WORKFLOW, output_content_type="text/plain"
            ),
            HandlerManifest(name="status", kind=HandlerKind.SHARED, input_content_type=""),
        ),
    ),
)


class FakeOperations:
    """Operations that remember what they were asked."""

    def __init__(self, handle: FakeHandle) -> None:
        self._handle = handle
        self.asked: list[tuple[object, ...]] = []

    async def pause(self, invocation_id: str) -> Answer:
        self.asked.append(("pause", invocation_id))
        return self._handle.answer

    async def resume(self, invocation_id: str, deployment: str = "keep") -> Answer:
        self.asked.append(("resume", invocation_id, deployment))
        return self._handle.answer

    async def restart(
        self,
        invocation_id: str,
        from_index: int = 0,
        deployment: str = "latest",
        idempotency_key: str | None = None,
    ) -> tuple[str, Answer]:
        self.asked.append(("restart", invocation_id, from_index, deployment, idempotency_key))
        return "inv_1new", self._handle.answer

    async def purge(self, invocation_id: str, *, is_journal_only: bool = False) -> Answer:
        self.asked.append(("purge", invocation_id, is_journal_only))
        return self._handle.answer


class FakeHandle:
    """A ServerHandle whose answers a test sets."""

    partition_count = 1

    def __init__(self) -> None:
        self.body_size_bytes_max = BODY_SIZE_BYTES_MAX
        self.requests: list[Request] = []
        self.signals: list[tuple[str, Signal]] = []
        self.killed: list[str] = []
        self.operations = FakeOperations(self)
        self.finished = Finished(INVOCATION_ID, Value(b'"hi"'), 0)
        self.accepted = Accepted(INVOCATION_ID, True, 0)
        self.answer = Answer(Reply.ACCEPTED, None)
        self.outcomes: dict[str, Finished | None] = {}
        self.rows: dict[str, InvocationRow] = {}
        self.journals: dict[str, list[JournalRow]] = {}
        self.states: dict[tuple[str, str], dict[str, bytes | StateRow]] = {}
        self.edits: list[tuple[str, str, StateEdit]] = []
        self.edit_reply = Reply.ACCEPTED
        self.queries: list[tuple[InvocationFilter, tuple[int, str] | None, int]] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None
        """When set, waits for outcomes last until it is."""
        self.waiting_count = 0
        self.began = asyncio.Event()
        """Set when a wait for an outcome has begun."""
        self._handlers = {
            (service.name, handler.name): HandlerRow(
                service.kind, handler, deployment_id_of("worker-1")
            )
            for service in SERVICES
            for handler in service.handlers
        }

    def now_ms(self) -> int:
        return NOW_MS

    def resolve(self, service: str, handler: str) -> HandlerRow:
        row = self._handlers.get((service, handler))
        if row is not None:
            return row
        if all(known.name != service for known in SERVICES):
            raise NotFoundError(
                f"There is no service {service!r}.", code="HF1001", hint="Start it."
            )
        raise NotFoundError(f"Service {service!r} has no handler {handler!r}.", code="HF1002")

    def services(self) -> Sequence[ServiceManifest]:
        return SERVICES

    def deployments(self) -> Sequence[StoredDeployment]:
        return [
            StoredDeployment(
                deployment_id_of("worker-1"), "worker-1", Manifest(services=SERVICES), NOW_MS, 2
            )
        ]

    async def _outcome(self) -> None:
        if self.error is not None:
            raise self.error
        if self.gate is not None:
            self.waiting_count += 1
            self.began.set()
            try:
                await self.gate.wait()
            finally:
                self.waiting_count -= 1

    async def send(self, request: Request) -> Accepted:
        if self.error is not None:
            raise self.error
        self.requests.append(request)
        return self.accepted._replace(execute_at_ms=request.execute_at_ms)

    async def call(self, request: Request) -> Finished:
        self.requests.append(request)
        await self._outcome()
        return self.finished

    async def attach(self, invocation_id: str) -> Finished:
        await self._outcome()
        output = await self.output(invocation_id)
        assert output is not None
        return output

    async def output(self, invocation_id: str) -> Finished | None:
        if self.error is not None:
            raise self.error
        if invocation_id not in self.outcomes:
            raise NotFoundError(f"There is no invocation {invocation_id}.", code="HF1004")
        return self.outcomes[invocation_id]

    async def signal(self, invocation_id: str, signal: Signal) -> Answer:
        self.signals.append((invocation_id, signal))
        return self.answer

    async def kill(self, invocation_id: str) -> Answer:
        self.killed.append(invocation_id)
        return self.answer

    async def invocation(self, invocation_id: str) -> InvocationRow | None:
        return self.rows.get(invocation_id)

    async def invocations(
        self, query: InvocationFilter, before: tuple[int, str] | None, limit: int
    ) -> list[InvocationRow]:
        self.queries.append((query, before, limit))
        rows = sorted(self.rows.values(), key=lambda r: (r.created_at_ms, r.id), reverse=True)
        return [r for r in rows if before is None or (r.created_at_ms, r.id) < before][:limit]

    async def journal(self, invocation_id: str) -> list[JournalRow]:
        return self.journals.get(invocation_id, [])

    async def state(self, service: str, key: str) -> dict[str, StateRow]:
        state = self.states.get((service, key), {})
        return {
            name: value if isinstance(value, StateRow) else StateRow(value)
            for name, value in state.items()
        }

    async def state_keys(self, service: str, after: str, limit: int) -> list[str]:
        keys = sorted(key for of, key in self.states if of == service and key > after)
        return keys[:limit]

    async def edit_state(self, service: str, key: str, edit: StateEdit) -> Answer:
        self.edits.append((service, key, edit))
        return Answer(self.edit_reply)

    async def attach_worker(self, port: HandlerPort) -> str:
        raise NotImplementedError

    def detach_worker(self, port: HandlerPort) -> None:
        raise NotImplementedError

    def health(self) -> dict[str, object]:
        return {"status": "ok", "durability": "full"}


class Seen(NamedTuple):
    """A response as a client sees it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def scope_of(
    method: str, url: str, headers: Sequence[tuple[str, str]], kind: str = "http"
) -> Scope:
    raw, _, query = url.partition("?")
    names = {name.lower() for name, _ in headers}
    extra = [] if "host" in names else [("host", "127.0.0.1:8080")]
    return {
        "type": kind,
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": unquote(raw),
        "raw_path": raw.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "headers": [
            (name.lower().encode(), value.encode("latin-1")) for name, value in (*extra, *headers)
        ],
        "extensions": {"websocket.http.response": {}},
    }


class Client:
    """Sends requests to an ASGI application in this process."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.sent: list[Message] = []

    async def request(
        self,
        method: str,
        url: str,
        body: bytes | Sequence[bytes] = b"",
        *,
        headers: Sequence[tuple[str, str]] = (),
        is_cut: bool = False,
    ) -> Seen:
        """Send a request; a sequence of bodies comes in parts, `is_cut` disconnects after them."""
        parts = [body] if isinstance(body, bytes) else list(body)
        inbox: list[Message] = [
            {"type": "http.request", "body": part, "more_body": is_cut or index < len(parts) - 1}
            for index, part in enumerate(parts)
        ]
        if is_cut:
            inbox.append({"type": "http.disconnect"})

        async def receive() -> Message:
            if inbox:
                return inbox.pop(0)
            await asyncio.Event().wait()
            raise AssertionError

        self.sent = []

        async def send(message: Message) -> None:
            self.sent.append(message)

        await self.app(scope_of(method, url, headers), receive, send)
        if not self.sent:
            return Seen(0, {}, b"")
        start, *rest = self.sent
        assert start["type"] == "http.response.start"
        pairs = [(name.decode(), value.decode()) for name, value in start["headers"]]
        assert len(dict(pairs)) == len(pairs), "a header occurs twice"
        content = b"".join(message["body"] for message in rest)
        is_stream = dict(pairs).get("content-type", "").startswith("text/event-stream")
        if not is_stream and start["status"] != 204:
            assert dict(pairs)["content-length"] == str(len(content))
        assert not rest[-1].get("more_body", False)
        return Seen(start["status"], dict(pairs), content)

    async def get(self, url: str, *headers: tuple[str, str]) -> Seen:
        return await self.request("GET", url, headers=headers)

    async def post(self, url: str, body: bytes = b"", *headers: tuple[str, str]) -> Seen:
        return await self.request("POST", url, body, headers=headers)

    async def post_json(self, url: str, body: bytes, *headers: tuple[str, str]) -> Seen:
        return await self.post(url, body, ("content-type", "application/json"), *headers)
