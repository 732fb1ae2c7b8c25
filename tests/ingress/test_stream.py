"""The routes for streams, and the formats in which they come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest
from ag_ui.core import Event
from pydantic import TypeAdapter

from holdfast.chunk import Custom, Reasoning, Text, ToolCall, ToolCallDelta, ToolResult
from holdfast.domain.message import Failure, Outcome, Value
from holdfast.ingress import stream as stream_module
from holdfast.ingress.app import create_ingress_app
from holdfast.sdk.sse import EventParser, SentEvent
from tests.ingress.fake import INVOCATION_ID, Client, FakeHandle
from tests.ingress.test_uvicorn import listening
from tests.server.fake_stream import Store

ROUTE = f"/holdfast/v1/invocations/{INVOCATION_ID}/stream"


@pytest.fixture
def store(handle: FakeHandle) -> Store:
    """What the streams of the server hold."""
    store = Store(INVOCATION_ID)
    handle.streams = store.feeds  # type: ignore[attr-defined]
    return store


def events(body: bytes) -> list[SentEvent]:
    return EventParser().feed(body)


def datas(body: bytes) -> list[Any]:
    """Return the data of all events but the mark at the end."""
    found = [event.data for event in events(body) if event.data != b"[DONE]"]
    return [msgspec.json.decode(data) for data in found]


@contextlib.asynccontextmanager
async def connected(
    port: int,
) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Ask for the stream over a socket."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {ROUTE} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


def tell_all(store: Store, outcome: Outcome | None = None) -> None:
    """Write one chunk of each meaning, then end."""
    chunks = (
        "Let me look. ",
        Reasoning("Which city? "),
        Reasoning("Paris."),
        ToolCallDelta("c1", "weather", '{"city":'),
        ToolCallDelta("c1", "weather", '"Paris"}'),
        ToolCall("c1", "weather", {"city": "Paris"}),
        ToolCall("c2", "time"),
        ToolResult("c1", {"sky": "blue"}),
        ToolResult("c2", error="no clock"),
        Text("It is "),
        Text("blue."),
        Custom("sources", [1]),
        {"rows": 3},
        7,
    )
    store.write_json(*map(msgspec.json.encode, chunks))
    store.end(outcome)


# -- the routes ------------------------------------------------------------------------------------


async def test_chunks_come_as_they_are_with_ids_and_then_the_end(
    client: Client, store: Store
) -> None:
    store.write("a", "b")
    store.write_json(b'{\n "x":\r\n 1}', lane=2)
    store.end(Value(b'{"y":2}'))
    seen = await client.get(ROUTE)
    assert seen.status == 200
    assert seen.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert seen.headers["cache-control"] == "no-cache, no-transform"
    assert seen.headers["x-restate-id"] == INVOCATION_ID
    assert seen.body.startswith(b"retry: 1000\n\n")
    assert events(seen.body) == [
        SentEvent("1-1", "message", b'"a"'),
        SentEvent("2-1", "message", b'"b"'),
        SentEvent("3-2", "message", b'{"x":1}'),
        SentEvent("3-end", "end", b'{"result":{"y":2}}'),
    ]


@pytest.mark.parametrize("is_header", [True, False])
@pytest.mark.parametrize(("place", "rest"), [("1-1", "bc"), ("2", "c"), ("3-1", ""), ("99", "")])
async def test_a_reader_goes_on_behind_the_last_event_that_it_has(
    client: Client, store: Store, place: str, rest: str, is_header: bool
) -> None:
    store.write("a", "b", "c")
    store.end()
    if is_header:
        # What a browser sends when it connects again, with the query of the first time.
        seen = await client.get(f"{ROUTE}?last_event_id=0", ("last-event-id", place))
    else:
        seen = await client.get(f"{ROUTE}?last_event_id={place}")
    found = [e.data for e in events(seen.body) if e.kind == "message"]
    assert found == [f'"{text}"'.encode() for text in rest]


async def test_after_the_end_a_browser_is_told_not_to_come_back(
    client: Client, store: Store
) -> None:
    store.write("a")
    store.end()
    last = events((await client.get(ROUTE)).body)[-1]
    seen = await client.get(ROUTE, ("last-event-id", last.id))
    assert (seen.status, seen.body) == (204, b"")


async def test_a_lost_lane_is_replaced_for_those_who_have_it(client: Client, store: Store) -> None:
    store.write("a", lane=1)
    store.write("lost", lane=2)
    store.write(lane=2, lost_from_id=2)
    store.write("new", lane=3)
    store.end()
    note = SentEvent("3-2", "replace", b'{"lane":2,"from":2,"to":2}')
    had = events((await client.get(ROUTE, ("last-event-id", "2-2"))).body)
    assert had[:-1] == [note, SentEvent("4-3", "message", b'"new"')]
    had_not = events((await client.get(ROUTE, ("last-event-id", "1-1"))).body)
    assert had_not[:-1] == [SentEvent("4-3", "message", b'"new"')]
    fresh = events((await client.get(ROUTE)).body)
    assert [e.data for e in fresh[:-1]] == [b'"a"', b'"new"']


@pytest.mark.parametrize(
    ("outcome", "data"),
    [
        (Value(b""), b'{"result":null}'),
        (Value(b"\xff\x00"), b'{"base64":"/wA="}'),
        (Failure(418, "no"), b'{"error":{"code":418,"message":"no"}}'),
        (Failure(5, "", {"a": ""}), b'{"error":{"code":5,"message":"","metadata":{"a":""}}}'),
    ],
)
async def test_every_outcome_can_be_told(
    client: Client, store: Store, outcome: Outcome, data: bytes
) -> None:
    store.end(outcome)
    assert events((await client.get(ROUTE)).body) == [SentEvent("0-end", "end", data)]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (f"{ROUTE}?stream=a%2Fb", 400, "HF0562"),
        (f"{ROUTE}?format=xml", 400, "HF1481"),
        (f"{ROUTE}?last_event_id=-1", 400, "HF1480"),
        (f"{ROUTE}?last_event_id=one", 400, "HF1480"),
        ("/holdfast/v1/invocations/inv_x/stream", 400, "HF1003"),
        ("/holdfast/v1/stream/A/b/c/d", 404, "HF1005"),
        ("/holdfast/v1/stream/Greeter/greet", 405, "HF1007"),
    ],
)
async def test_bad_requests_are_refused(
    client: Client, store: Store, path: str, status: int, code: str
) -> None:
    seen = await client.get(path)
    assert (seen.status, seen.json["error_code"]) == (status, code)


async def test_an_unknown_invocation(client: Client, store: Store) -> None:
    store.is_there = False
    seen = await client.get(ROUTE)
    assert (seen.status, seen.json["error_code"]) == (404, "HF1004")


async def test_a_post_makes_an_invocation_and_reads_its_stream(
    client: Client, handle: FakeHandle, store: Store
) -> None:
    store.write("a")
    store.end()
    seen = await client.post_json(
        "/holdfast/v1/stream/Cart/key%2F1/add?stream=default",
        b'{"x":1}',
        ("idempotency-key", "k"),
    )
    assert [e.kind for e in events(seen.body)] == ["message", "end"]
    assert seen.headers["x-restate-id"] == INVOCATION_ID
    (request,) = handle.requests
    assert str(request.target) == "Cart/key/1/add"
    assert (request.body, request.idempotency_key) == (b'{"x":1}', "k")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/holdfast/v1/stream/Nobody/greet", "HF1001"),
        ("/holdfast/v1/stream/Greeter/hidden", "HF1015"),
        ("/holdfast/v1/stream/Cart/add", "HF1010"),
    ],
)
async def test_a_post_is_checked_as_a_call(
    client: Client, handle: FakeHandle, store: Store, path: str, code: str
) -> None:
    seen = await client.post_json(path, b"1")
    assert seen.json["error_code"] == code
    assert handle.requests == []


async def test_a_quiet_stream_beats_and_a_client_that_leaves_leaves_nothing(
    handle: FakeHandle, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "HEARTBEAT_S", 0.01)
    async with (
        asyncio.timeout(10),
        listening(create_ingress_app(handle)) as port,
        connected(port) as (reader, writer),
    ):
        await reader.readuntil(b"\n:\n\n")
        store.write("a")
        await reader.readuntil(b'data: "a"\n\n')
        assert store.feeds._feeds
        writer.close()
        while store.feeds._feeds:
            await asyncio.sleep(0.001)


async def test_when_the_server_stops_the_response_ends_without_the_end(
    handle: FakeHandle, store: Store
) -> None:
    async with listening(create_ingress_app(handle)) as port, asyncio.timeout(10):
        async with connected(port) as (reader, _):
            await reader.readuntil(b"retry: 1000")
            store.write("a")
            await reader.readuntil(b'data: "a"\n\n')
            store.feeds.close()
            rest = await reader.readuntil(b"0\r\n\r\n")
        assert b"end" not in rest


# -- AG-UI -----------------------------------------------------------------------------------------

_AG_UI: TypeAdapter[Any] = TypeAdapter(Event)


async def test_ag_ui_events_are_those_of_the_protocol(client: Client, store: Store) -> None:
    tell_all(store, Value(b'"done"'))
    seen = await client.get(f"{ROUTE}?format=ag-ui")
    found = datas(seen.body)
    for event in found:
        known = _AG_UI.validate_python(event)
        # Nothing that the protocol does not know.
        assert known.model_dump(mode="json", by_alias=True, exclude_none=True).keys() >= {
            name for name, value in event.items() if value is not None
        }
    assert [event["type"] for event in found] == [
        "RUN_STARTED",
        *("TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END"),
        *("REASONING_START", "REASONING_MESSAGE_START"),
        *("REASONING_MESSAGE_CONTENT", "REASONING_MESSAGE_CONTENT"),
        *("REASONING_MESSAGE_END", "REASONING_END"),
        *("TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_ARGS", "TOOL_CALL_END"),
        *("TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END"),
        *("TOOL_CALL_RESULT", "TOOL_CALL_RESULT"),
        *("TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_CONTENT"),
        "TEXT_MESSAGE_END",
        *("CUSTOM", "CUSTOM", "CUSTOM"),
        "RUN_FINISHED",
    ]
    assert found[-1]["result"] == "done"
    results = [e["content"] for e in found if e["type"] == "TOOL_CALL_RESULT"]
    assert results == ['{"sky":"blue"}', '{"error":"no clock"}']


async def test_ag_ui_names_thread_and_run_as_the_client_does(client: Client, store: Store) -> None:
    store.end(Failure(500, "out of luck"))
    body = msgspec.json.encode({"threadId": "t1", "runId": "r1", "messages": []})
    seen = await client.post_json("/holdfast/v1/stream/Greeter/greet?format=ag-ui", body)
    assert datas(seen.body) == [
        {"type": "RUN_STARTED", "threadId": "t1", "runId": "r1"},
        {"type": "RUN_ERROR", "message": "out of luck", "code": "500"},
    ]


async def test_ag_ui_says_which_messages_are_lost(client: Client, store: Store) -> None:
    store.write("lost", lane=1)
    store.write(lane=1, lost_from_id=1)
    store.write("new", lane=2)
    store.end()
    seen = await client.get(f"{ROUTE}?format=ag-ui&last_event_id=1-1")
    note = datas(seen.body)[0]
    _AG_UI.validate_python(note)
    assert note["name"] == "holdfast.replace"
    assert note["value"] == {"lane": 1, "messageIdPrefix": f"{INVOCATION_ID}-1-"}


# -- the AI SDK ------------------------------------------------------------------------------------


async def test_ai_sdk_chunks(client: Client, store: Store) -> None:
    tell_all(store, Value(b'"done"'))
    seen = await client.get(f"{ROUTE}?format=ai-sdk")
    assert seen.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert seen.body.endswith(b"data: [DONE]\n\n")
    found = datas(seen.body)
    assert [event["type"] for event in found] == [
        *("start", "start-step", "text-start", "text-delta", "text-end"),
        *("reasoning-start", "reasoning-delta", "reasoning-delta", "reasoning-end"),
        *("tool-input-start", "tool-input-delta", "tool-input-delta", "tool-input-available"),
        *("tool-input-available", "tool-output-available", "tool-output-error"),
        *("text-start", "text-delta", "text-delta", "text-end"),
        *("data-sources", "data-chunk", "data-chunk", "finish-step", "finish"),
    ]
    assert found[0]["messageId"] == INVOCATION_ID
    assert found[-1]["messageMetadata"] == {"result": "done"}


async def test_ai_sdk_tells_a_failure(client: Client, store: Store) -> None:
    store.end(Failure(500, "out of luck"))
    seen = await client.get(f"{ROUTE}?format=ai-sdk")
    assert datas(seen.body)[1:] == [{"type": "error", "errorText": "out of luck"}]


@pytest.mark.parametrize("format", ["sse", "ag-ui", "ai-sdk"])
async def test_whoever_goes_on_at_any_place_gets_the_rest_of_it(
    client: Client, store: Store, format: str
) -> None:
    """A connection may be lost behind any event that has an id."""
    tell_all(store)
    whole = (await client.get(f"{ROUTE}?format={format}")).body
    for event in events(whole):
        if not event.id or event.id.endswith("end"):
            continue
        mark = b"id: %s\n" % event.id.encode()
        end = whole.index(b"\n\n", whole.index(mark)) + 2
        seen = await client.get(f"{ROUTE}?format={format}&last_event_id={event.id}")
        assert seen.body.removeprefix(b"retry: 1000\n\n") == whole[end:], event.id
