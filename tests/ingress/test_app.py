from __future__ import annotations

import asyncio

import pytest

from holdfast.domain.errors import CorruptState, StorageUnavailable
from holdfast.domain.message import Failure, Value
from holdfast.domain.target import Target
from holdfast.ingress.app import create_ingress_app
from holdfast.ingress.outcome import OutputType, finished_response
from holdfast.server.handle import Finished, Overloaded
from holdfast.web.asgi import Message, Receive, Scope, Send
from tests.ingress.fake import INVOCATION_ID, NOW_MS, Client, FakeHandle, scope_of

JSON = ("content-type", "application/json")


# -- calls ---------------------------------------------------------------------------------------


async def test_calls(client: Client, handle: FakeHandle) -> None:
    seen = await client.post_json("/Greeter/greet", b'"Ann"')
    assert seen.status == 200
    assert seen.body == b'"hi"'
    assert seen.headers == {
        "x-restate-id": INVOCATION_ID,
        "content-type": "application/json",
        "content-length": "4",
    }
    [request] = handle.requests
    assert request.target == Target("Greeter", "greet")
    assert request.handler == handle.resolve("Greeter", "greet")
    assert request.body == b'"Ann"'
    assert request.idempotency_key is None
    assert request.execute_at_ms == 0


@pytest.mark.parametrize(
    "path", ["/Cart/my%2Fk%C3%A4y/add", "/restate/call/Cart/my%2Fk%C3%A4y/add"]
)
async def test_decodes_keys_once(client: Client, handle: FakeHandle, path: str) -> None:
    assert (await client.post_json(path, b"{}")).status == 200
    assert handle.requests[0].target == Target("Cart", "add", "my/käy")


async def test_get_calls_handlers_without_input(client: Client, handle: FakeHandle) -> None:
    handle.finished = Finished(INVOCATION_ID, Value(b""), 0)
    seen = await client.get("/Greeter/ping/")
    assert (seen.status, seen.body) == (200, b"")
    assert "content-type" not in seen.headers
    assert handle.requests[0].target == Target("Greeter", "ping")


@pytest.mark.parametrize(
    ("path", "content", "content_type"),
    [
        ("/Greeter/upload", b"ok", "text/plain"),
        ("/Greeter/upload", b"", None),
        ("/Greeter/maybe", b"1", "application/json"),
        ("/Greeter/maybe", b"", None),
    ],
)
async def test_names_the_type_of_a_result_that_is_there(
    client: Client, handle: FakeHandle, path: str, content: bytes, content_type: str | None
) -> None:
    handle.finished = Finished(INVOCATION_ID, Value(content), 0)
    seen = await client.post_json(path, b"1")
    assert (seen.body, seen.headers.get("content-type")) == (content, content_type)


async def test_the_handler_sees_path_and_headers(client: Client, handle: FakeHandle) -> None:
    await client.post_json(
        "/Cart/a%2Fb/add?x=1&y=%20",
        b"{}",
        ("connection", "keep-alive"),
        ("idempotency-key", "abc"),
        ("idempotency-expires", "never"),
        ("x-trace", "1"),
        ("x-trace", "2"),
    )
    assert handle.requests[0].headers == (
        ("x-restate-ingress-path", "/Cart/a%2Fb/add?x=1&y=%20"),
        ("content-type", "application/json"),
        ("x-trace", "1"),
        ("x-trace", "2"),
    )
    assert handle.requests[0].idempotency_key == "abc"


async def test_stored_outcomes_say_when_they_expire(client: Client, handle: FakeHandle) -> None:
    handle.finished = Finished(INVOCATION_ID, Value(b"1"), NOW_MS + 500)
    seen = await client.post_json("/Greeter/greet", b"1", ("idempotency-key", "k"))
    assert seen.headers["idempotency-expires"] == "2026-01-31T12:00:00.500Z"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (418, 418),
        (409, 409),
        (200, 200),
        (599, 599),
        # Statuses that HTTP cannot send with a body, or not at all.
        (9999, 500),
        (600, 500),
        (99, 500),
        (0, 500),
        (100, 500),
        (101, 500),
        (204, 500),
        (304, 500),
    ],
)
async def test_failures(client: Client, handle: FakeHandle, code: int, status: int) -> None:
    handle.finished = Finished(INVOCATION_ID, Failure(code, "no tea", {"pot": "empty"}), 0)
    seen = await client.post_json("/Greeter/greet", b"1")
    assert seen.status == status
    assert seen.headers["x-restate-error-source"] == "invocation"
    assert seen.headers["x-restate-id"] == INVOCATION_ID
    assert seen.headers["content-type"] == "application/json"
    assert seen.json == {
        "code": code,
        "message": "no tea",
        "source": "invocation",
        "metadata": {"pot": "empty"},
    }


async def test_failures_without_metadata_have_none(client: Client, handle: FakeHandle) -> None:
    handle.finished = Finished(INVOCATION_ID, Failure(500, "no", {}), NOW_MS)
    seen = await client.post_json("/Greeter/greet", b"1")
    assert set(seen.json) == {"code", "message", "source"}
    assert "idempotency-expires" in seen.headers


# -- sends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/Greeter/greet/send", "/restate/send/Greeter/greet", "/Greeter/greet/send/"]
)
async def test_sends(client: Client, handle: FakeHandle, path: str) -> None:
    seen = await client.post_json(path, b'"Ann"')
    assert seen.status == 202
    assert seen.headers["x-restate-id"] == INVOCATION_ID
    assert seen.json == {"invocationId": INVOCATION_ID, "status": "Accepted"}
    assert handle.requests[0].target == Target("Greeter", "greet")


async def test_sends_later(client: Client, handle: FakeHandle) -> None:
    seen = await client.post_json("/Greeter/greet/send?delay=PT1.5S", b"1")
    assert seen.json["executionTime"] == "2026-01-31T12:00:01.500Z"
    assert handle.requests[0].execute_at_ms == NOW_MS + 1500
    seen = await client.post_json("/Greeter/greet/send?delay=2%20s&x=y", b"1")
    assert handle.requests[1].execute_at_ms == NOW_MS + 2000
    seen = await client.post_json("/Greeter/greet/send?delay=0", b"1")
    assert "executionTime" not in seen.json


async def test_sends_again(client: Client, handle: FakeHandle) -> None:
    handle.accepted = handle.accepted._replace(is_new=False)
    seen = await client.post_json("/Cart/k/add/send", b"1", ("idempotency-key", "x"))
    assert (seen.status, seen.json["status"]) == (202, "PreviouslyAccepted")


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "headers", "body", "status", "code", "text"),
    [
        ("/Nobody/x", [JSON], b"1", 404, "HF1001", "There is no service 'Nobody'."),
        ("/Greeter/x", [JSON], b"1", 404, "HF1002", "has no handler 'x'"),
        ("/x", [JSON], b"1", 400, "HF1005", "Path '/x' has no meaning here."),
        ("/openapi", [], b"", 400, "HF1005", "Path '/openapi' has no meaning here."),
        ("/Cart/%ff/add", [JSON], b"1", 400, "HF1006", "not UTF-8"),
        ("/Greeter/greet", [("host", "evil.example")], b"1", 421, "HF1008", "'evil.example'"),
        ("/Greeter/greet", [("sec-fetch-site", "cross-site")], b"1", 403, "HF1009", "web page"),
        ("/Cart/add", [JSON], b"1", 400, "HF1010", "Cart is keyed"),
        ("/Greeter/k/greet", [JSON], b"1", 400, "HF1011", "has no keys"),
        ("/Cart//add", [JSON], b"1", 400, "HF1012", "is empty"),
        ("/Cart/" + "k" * 2000 + "/add", [JSON], b"1", 400, "HF1013", "2000 bytes; at most 1024"),
        ("/Cart/%00/add", [JSON], b"1", 400, "HF1014", "NUL"),
        ("/Greeter/hidden", [JSON], b"1", 400, "HF1015", "is private"),
        ("/restate/scope/s/call/Greeter/greet", [JSON], b"1", 400, "HF1016", "Scopes are not"),
        ("/Greeter/greet", [JSON, ("x-restate-limit-key", "k")], b"1", 400, "HF1016", "Limit keys"),
        ("/Greeter/greet/send?limit-key=k", [JSON], b"1", 400, "HF1016", "Limit keys are not"),
        ("/Greeter/greet", [JSON, *[("x-a", "b")] * 200], b"1", 431, "HF1017", "has 202 headers"),
        ("/Greeter/greet", [JSON, ("cookie", "x" * 65_536)], b"1", 431, "HF1017", "65536"),
        ("/Cart/k/add", [JSON], b"", 400, "HF1020", "the body is empty"),
        ("/Greeter/ping", [], b"1", 400, "HF1021", "takes no input"),
        ("/Greeter/greet", [JSON], b'{"a":', 400, "HF1022", "ends too early at line 1, column 6"),
        ("/Greeter/greet", [JSON], b"NaN", 400, "HF1023", "JSON has no such number"),
        ("/Greeter/greet", [JSON], b"[" * 100_000, 400, "HF1024", "128 levels"),
        ("/Greeter/greet", [JSON], b'"\xff"', 400, "HF1025", "not UTF-8"),
        ("/Greeter/greet", [("content-type", "text/html")], b"1", 400, "HF1026", "'text/html'"),
        ("/Greeter/greet", [JSON, ("content-encoding", "br")], b"1", 415, "HF1027", "'br'"),
        ("/Greeter/greet", [JSON], b"1" * 1_000_001, 413, "HF1028", "at most 1000000"),
        ("/Greeter/greet", [JSON, ("content-length", "-1")], b"1", 400, "HF1029", "'-1'"),
        ("/Greeter/greet", [JSON, ("content-length", "3")], b"1", 400, "HF1029", "but 1 came"),
        ("/Greeter/greet/send?delay=soon", [JSON], b"1", 400, "HF1030", "'soon' is not a duration"),
        ("/Greeter/greet/send?delay=", [JSON], b"1", 400, "HF1030", "'' is not a duration"),
        ("/Greeter/greet/send?delay=1&delay=2", [JSON], b"1", 400, "HF1030", "has 2 delays"),
        ("/Greeter/greet/send?delay=101y", [JSON], b"1", 400, "HF1030", "'101y'"),
        ("/Greeter/greet/send?delay=99999d", [JSON], b"1", 400, "HF1031", "is 99999 days"),
        ("/Greeter/greet?delay=1s", [JSON], b"1", 400, "HF1032", "cannot have a delay"),
        ("/Greeter/greet", [JSON, ("idempotency-key", "")], b"1", 400, "HF1040", "is empty"),
        ("/Greeter/greet", [JSON, ("idempotency-key", "k" * 257)], b"1", 400, "HF1040", "has 257"),
        ("/Greeter/greet", [JSON, ("idempotency-key", "é")], b"1", 400, "HF1040", "ASCII"),
        (
            "/Greeter/greet",
            [JSON, *[("idempotency-key", "k")] * 2],
            b"1",
            400,
            "HF1040",
            "than one",
        ),
        ("/Signup/k/run", [JSON, ("idempotency-key", "k")], b"1", 400, "HF1041", "runs once"),
    ],
)
async def test_refuses_with_a_reason(
    client: Client,
    handle: FakeHandle,
    url: str,
    headers: list[tuple[str, str]],
    body: bytes,
    status: int,
    code: str,
    text: str,
) -> None:
    seen = await client.request("POST", url, body, headers=headers)
    assert (seen.status, seen.json["error_code"]) == (status, code)
    assert seen.json["code"] == status
    assert seen.json["source"] == "ingress"
    assert text in seen.json["message"]
    assert len(seen.json["message"]) < 300
    assert seen.headers["x-restate-error-source"] == "ingress"
    assert seen.headers["content-type"] == "application/json"
    assert handle.requests == []


@pytest.mark.parametrize("method", ["PUT", "HEAD", "DELETE", "PATCH", "TRACE"])
async def test_refuses_other_methods(client: Client, method: str) -> None:
    seen = await client.request(method, "/Greeter/greet")
    assert (seen.status, seen.json["error_code"]) == (405, "HF1007")
    assert seen.headers["allow"] == "GET, POST, OPTIONS"
    assert method in seen.json["message"]


async def test_cors_is_off(client: Client) -> None:
    seen = await client.request("OPTIONS", "/Greeter/greet", headers=[("origin", "http://a.b")])
    assert (seen.status, seen.body) == (200, b"")
    assert not any(name.startswith("access-control") for name in seen.headers)


async def test_large_bodies_are_refused_before_they_come(client: Client) -> None:
    seen = await client.request(
        "POST",
        "/Greeter/greet",
        [b"x" * 10] * 5,
        headers=[JSON, ("content-length", "1000001")],
    )
    assert (seen.status, seen.json["error_code"]) == (413, "HF1028")
    assert seen.headers["connection"] == "close"


async def test_a_client_that_waits_with_its_body_is_not_left_in_doubt(client: Client) -> None:
    seen = await client.post_json("/Nobody/x", b"", ("expect", "100-continue"))
    assert (seen.status, seen.headers["connection"]) == (404, "close")


async def test_a_cut_request_begins_nothing(client: Client, handle: FakeHandle) -> None:
    seen = await client.request("POST", "/Greeter/greet", b'"A', headers=[JSON], is_cut=True)
    assert seen.status == 0
    assert handle.requests == []


@pytest.mark.parametrize(
    ("error", "status", "code", "is_retryable"),
    [
        (StorageUnavailable("No leader."), 503, "HF4001", True),
        (Overloaded(Target("Cart", "add", "k")), 429, "HF1429", True),
        (CorruptState("Rows contradict."), 500, "HF4003", False),
        (RuntimeError("secret"), 500, "HF0000", False),
    ],
)
async def test_errors_of_the_server(
    client: Client,
    handle: FakeHandle,
    error: Exception,
    status: int,
    code: str,
    is_retryable: bool,
) -> None:
    handle.error = error
    for path in ("/Greeter/greet", "/Greeter/greet/send"):
        seen = await client.post_json(path, b"1")
        assert (seen.status, seen.json["error_code"]) == (status, code)
        assert ("retry-after" in seen.headers) == is_retryable
        assert "secret" not in seen.body.decode()


async def test_content_types_cannot_forge_headers(handle: FakeHandle) -> None:
    for content_type in ("text/plain\r\nset-cookie: a=b", "nonsense", "text/плейн"):
        response = finished_response(handle.finished, OutputType(content_type))
        assert (b"content-type", b"application/octet-stream") in response.headers


@pytest.mark.parametrize("is_for_empty", [False, True])
async def test_an_empty_result_has_a_type_where_its_handler_says_so(is_for_empty: bool) -> None:
    empty = Finished(INVOCATION_ID, Value(b""), 0)
    response = finished_response(empty, OutputType("text/plain", is_for_empty))
    assert ((b"content-type", b"text/plain") in response.headers) == is_for_empty


# -- the application -----------------------------------------------------------------------------


async def test_works_without_a_raw_path(client: Client, handle: FakeHandle) -> None:
    app = create_ingress_app(handle)
    scope = scope_of("POST", "/Cart/k%C3%A4y/total", [])
    del scope["raw_path"]

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        assert message.get("status", 200) == 200

    await app(scope, receive, send)
    assert handle.requests[0].target.key == "käy"


async def test_mounts_its_own_routes_behind_the_guard(handle: FakeHandle) -> None:
    async def hello(scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 203,
                "headers": [(b"content-length", b"0")],
            }
        )
        await send({"type": "http.response.body", "body": b""})

    client = Client(create_ingress_app(handle, routes={"/holdfast/v1/invocations": hello}))
    assert (await client.get("/holdfast/v1/invocations/x/stream")).status == 203
    assert (await client.get("/holdfast/v1/invocations")).status == 203
    assert (await client.get("/holdfast/v1/invocationsx")).status == 404
    assert (await client.get("/holdfast/v1/invocations", ("host", "evil"))).status == 421


async def test_answers_lifespan_and_refuses_websockets(handle: FakeHandle) -> None:
    app = create_ingress_app(handle)
    inbox: list[Message] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[Message] = []

    async def receive() -> Message:
        return inbox.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "lifespan"}, receive, send)
    assert [m["type"] for m in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    sent.clear()
    scope = scope_of("GET", "/Greeter/greet", [], kind="websocket")
    await app(scope, receive, send)
    assert sent[0] == {
        "type": "websocket.http.response.start",
        "status": 400,
        "headers": sent[0]["headers"],
    }
    sent.clear()
    del scope["extensions"]
    await app(scope, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_concurrent_requests_do_not_mix(client: Client, handle: FakeHandle) -> None:
    paths = [f"/Cart/k{index}/add" for index in range(50)]
    clients = [Client(client.app) for _ in paths]
    await asyncio.gather(
        *(
            c.post_json(path, b"%d" % i)
            for i, (c, path) in enumerate(zip(clients, paths, strict=True))
        )
    )
    assert sorted((r.target.key, r.body) for r in handle.requests) == sorted(
        (f"k{index}", b"%d" % index) for index in range(50)
    )
