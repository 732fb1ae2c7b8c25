"""Handlers as an HTTP endpoint, against a server that is played by hand."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from endpoint_harness import (
    CODEC,
    INVOCATION_ID,
    JOURNAL,
    NOW_MS,
    PATH,
    Attempt,
    Exchange,
    Served,
    start_of,
)

from holdfast.domain.message import (
    KIND_RUN,
    Completion,
    End,
    Error,
    Input,
    Output,
    Run,
    Signal,
    Sleep,
    Suspension,
    Value,
    Void,
)
from holdfast.protocol.identity import Signer
from holdfast.protocol.restate.codec import Codec, CommandAck
from holdfast.protocol.restate.frame import Frame, encode_frame
from holdfast.transport.http import handler_exchange

STEP = Completion(KIND_RUN, 1, Value(b"1"))


def manifest_type(version: int) -> str:
    return f"application/vnd.restate.endpointmanifest.v{version}+json"


def finish(attempt: Attempt) -> None:
    attempt.say(Output(Value(b'"out"')), End())
    attempt.stream.on_closed(None)


@pytest.fixture
def served() -> Served:
    return Served()


# -- discovery and health --------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3, 4])
async def test_discovery_answers_with_the_highest_version_offered(
    version: int, served: Served
) -> None:
    accept = ", ".join(manifest_type(each) for each in range(1, version + 1))
    exchange = served.ask("GET", "/discover", headers={"accept": accept})
    await exchange.over()
    assert exchange.status == 200
    assert exchange.headers["content-type"] == manifest_type(version)
    assert exchange.headers["x-restate-server"].startswith("holdfast/")
    manifest = json.loads(exchange.body)
    assert [manifest["minProtocolVersion"], manifest["maxProtocolVersion"]] == [5, 7]
    assert manifest["services"][0]["name"] == "Greeter"


@pytest.mark.parametrize(
    ("http_version", "mode"),
    [("1.1", "REQUEST_RESPONSE"), ("2", "BIDI_STREAM"), ("3", "BIDI_STREAM")],
)
async def test_the_mode_follows_the_http_version(
    http_version: str, mode: str, served: Served
) -> None:
    exchange = served.ask("GET", "/discover", http_version=http_version)
    await exchange.over()
    assert json.loads(exchange.body)["protocolMode"] == mode


@pytest.mark.parametrize("prefix", ["", "/agents", "/a/b/invoke"])
async def test_it_can_be_mounted_anywhere(prefix: str, served: Served) -> None:
    for path in ("/discover", "/health"):
        exchange = served.ask("GET", prefix + path)
        await exchange.over()
        assert exchange.status == 200
    exchange = Exchange(served.endpoint, path=prefix + PATH)
    exchange.end(JOURNAL)
    await exchange.until(lambda: served.port.attempts)
    finish(served.port.attempts[0])
    await exchange.over()
    assert exchange.messages() == [Output(Value(b'"out"')), End()]


async def test_a_request_is_refused_only_when_it_was_read(served: Served) -> None:
    """Servers of HTTP/2 forget a stream with its response, and trip over what still comes."""
    exchange = Exchange(served.endpoint, path="/invoke/Greeter/nobody")
    exchange.write(JOURNAL)
    await exchange.until(lambda: exchange.status)
    assert exchange.status == 404
    await asyncio.sleep(0)
    assert not exchange.has_ended
    exchange.end()
    await exchange.over()
    assert exchange.has_ended


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("GET", "/discover", {"accept": "application/json"}, 415, "HF1332"),
        ("POST", "/discover", {}, 405, "HF1007"),
        ("GET", PATH, {}, 405, "HF1007"),
        ("GET", "/nothing", {}, 404, "HF1383"),
        ("GET", "/", {}, 404, "HF1383"),
        ("POST", "/invoke/Greeter/nobody", {}, 404, "HF1382"),
        ("POST", "/invoke/Nobody/greet", {}, 404, "HF1382"),
        ("POST", PATH, {"content-type": "application/vnd.restate.invocation.v4"}, 415, "HF1331"),
        ("POST", PATH, {"content-type": "application/vnd.restate.invocation.v8"}, 415, "HF1331"),
        ("POST", PATH, {"content-type": "application/json"}, 415, "HF1331"),
        ("POST", PATH, {}, 400, "HF1380"),
    ],
)
async def test_refusals(
    method: str, path: str, headers: dict[str, str], status: int, code: str, served: Served
) -> None:
    exchange = served.ask(method, path, headers=headers)
    await exchange.over()
    assert exchange.status == status
    body = json.loads(exchange.body)
    assert (body["code"], body["error_code"]) == (status, code)
    assert body["message"]
    assert not served.port.attempts


async def test_lifespan_and_websockets(served: Served) -> None:
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message["type"])

    incoming = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Any:
        return next(incoming)

    await served.endpoint({"type": "lifespan"}, receive, send)
    await served.endpoint({"type": "websocket"}, receive, send)
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]


# -- identity --------------------------------------------------------------------------------------


def signer() -> Signer:
    key = Ed25519PrivateKey.generate()
    return Signer(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.mark.parametrize("prefix", ["", "/behind/a/prefix"])
async def test_only_servers_that_are_known_may_ask(prefix: str) -> None:
    known, other = signer(), signer()
    served = Served(known.public_key)
    for method, path in (("GET", "/discover"), ("POST", PATH)):
        for headers in (
            {},
            dict(other.headers(path, NOW_MS // 1000)),
            dict(known.headers(path, NOW_MS // 1000 - 3600)),
            dict(known.headers("/invoke/Greeter/other", NOW_MS // 1000)),
        ):
            exchange = served.ask(method, prefix + path, headers=headers)
            await exchange.over()
            assert exchange.status == 401
            assert json.loads(exchange.body)["error_code"] == "HF1370"
    headers = dict(known.headers("/discover", NOW_MS // 1000))
    exchange = served.ask("GET", f"{prefix}/discover", headers=headers)
    await exchange.over()
    assert exchange.status == 200
    exchange = served.ask("GET", f"{prefix}/health")
    await exchange.over()
    assert exchange.status == 200
    assert not served.port.attempts


# -- the journal -----------------------------------------------------------------------------------


async def test_a_stream_may_be_cut_anywhere() -> None:
    entries = [Input(Value(b'"in"')), Run(1, "fetch", "run:fetch#0"), STEP]
    codec = Codec(6, is_keyed=True)
    stream = codec.encode_start(start_of(3)) + b"".join(codec.encode(each) for each in entries)
    for cut in range(len(stream) + 1):
        served = Served()
        exchange = Exchange(served.endpoint)
        exchange.write(stream[:cut])
        exchange.end(stream[cut:])
        await exchange.until(lambda served=served: served.port.attempts)
        [attempt] = served.port.attempts
        assert attempt.entries == entries
        assert attempt.start.invocation_id == INVOCATION_ID
        assert not attempt.start.has_extensions
        finish(attempt)
        await exchange.over()


@pytest.mark.parametrize("version", [5, 6, 7])
async def test_versions(version: int, served: Served) -> None:
    media_type = f"application/vnd.restate.invocation.v{version}"
    exchange = Exchange(served.endpoint, headers={"content-type": media_type})
    exchange.end(JOURNAL)
    await exchange.until(lambda: exchange.status)
    assert exchange.status == 200
    assert exchange.headers["content-type"] == media_type
    finish(served.port.attempts[0])
    await exchange.over()


@pytest.mark.parametrize(
    ("stream", "status", "code"),
    [
        (b"", 400, "HF1380"),
        (JOURNAL[:-1], 400, "HF1380"),
        (CODEC.encode(Run(1)), 400, "HF1322"),
        (CODEC.encode_start(start_of(0)), 400, "HF1322"),
        (CODEC.encode_start(start_of(1_000_001)), 413, "HF1381"),
        (CODEC.encode_start(start_of()) + CODEC.encode_command_ack(CommandAck(1)), 400, "HF1322"),
        (CODEC.encode_start(start_of()) + encode_frame(Frame(0x0500, b"")), 400, "HF1322"),
        (encode_frame(Frame(0, b"\xff\xff")), 400, "HF1320"),
        (b"\0\0\0\0\xff\xff\xff\xff", 400, "HF1321"),
    ],
    ids=[
        "nothing",
        "cut",
        "no start",
        "no entries",
        "too many",
        "ack",
        "unknown",
        "not protobuf",
        "huge",
    ],
)
async def test_a_journal_that_cannot_be_read(
    stream: bytes, status: int, code: str, served: Served
) -> None:
    exchange = Exchange(served.endpoint)
    exchange.end(stream)
    await exchange.over()
    assert exchange.status == status
    assert json.loads(exchange.body)["error_code"] == code
    assert not served.port.attempts


async def test_a_journal_has_a_limit_in_bytes(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler_exchange, "JOURNAL_SIZE_BYTES_MAX", len(JOURNAL) - 1)
    exchange = Exchange(served.endpoint)
    exchange.end(JOURNAL)
    await exchange.over()
    assert exchange.status == 413


async def test_a_client_that_hangs_up_before_the_attempt_begins(served: Served) -> None:
    exchange = Exchange(served.endpoint)
    exchange.write(JOURNAL[:20])
    exchange.hang_up()
    await exchange.over()
    assert exchange.status == 0
    assert not served.port.attempts


# -- an attempt ------------------------------------------------------------------------------------


async def test_messages_go_both_ways_while_the_attempt_runs(served: Served) -> None:
    attempt, exchange = await served.opened()
    assert not attempt.is_input_closed
    attempt.say(Run(1))
    await exchange.until(lambda: exchange.body)
    assert exchange.messages() == [Run(1)]
    exchange.write(CODEC.encode(STEP)[:5])
    exchange.write(CODEC.encode(STEP)[5:] + CODEC.encode_command_ack(CommandAck(1)))
    exchange.write(CODEC.encode(Signal(Void(), index=1)))
    await exchange.until(lambda: len(attempt.notified) == 2)
    assert attempt.notified == [STEP, Signal(Void(), index=1)]
    finish(attempt)
    await exchange.until(lambda: exchange.body)
    assert exchange.messages() == [Output(Value(b'"out"')), End()]
    # The response ends only when the request has.
    assert not exchange.has_ended
    exchange.end()
    await exchange.over()
    assert exchange.has_ended


async def test_at_the_end_of_the_request_the_handler_may_wait_no_longer(served: Served) -> None:
    attempt, exchange = await served.opened()
    exchange.end(CODEC.encode(STEP))
    await exchange.until(lambda: attempt.is_input_closed)
    assert attempt.notified == [STEP]
    attempt.say(Suspension((2,), (1,)))
    attempt.stream.on_closed(None)
    await exchange.over()
    assert exchange.messages() == [Suspension((2,), (1,))]


async def test_a_peer_that_does_not_end_its_request_is_not_waited_for(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler_exchange, "LINGER_TIMEOUT_S", 0.01)
    attempt, exchange = await served.opened()
    finish(attempt)
    await exchange.over()
    assert exchange.has_ended


async def test_nothing_follows_the_last_message(served: Served) -> None:
    attempt, exchange = await served.opened()
    attempt.say(Output(Value(b"1")), End(), Run(7))
    attempt.say(Sleep(1, 2))
    # And what comes in is not looked at any more.
    exchange.end(b"nonsense")
    attempt.stream.on_closed(None)
    await exchange.over()
    assert exchange.messages() == [Output(Value(b"1")), End()]


@pytest.mark.parametrize("is_busy", [False, True], ids=["idle", "busy"])
async def test_a_client_that_hangs_up_aborts_the_attempt(is_busy: bool, served: Served) -> None:
    attempt, exchange = await served.opened()
    if is_busy:
        exchange.is_stuck = True
        attempt.say(Run(1))
        await asyncio.sleep(0)
    exchange.hang_up()
    await exchange.until(lambda: attempt.is_aborted)
    exchange.read_on()
    await exchange.over()
    assert not exchange.has_ended


async def test_a_client_that_cannot_be_written_to_aborts_the_attempt(served: Served) -> None:
    attempt, exchange = await served.opened()
    exchange.is_broken = True
    attempt.say(Run(1))
    await exchange.over()
    assert attempt.is_aborted


async def test_a_cancelled_request_aborts_the_attempt(served: Served) -> None:
    attempt, exchange = await served.opened()
    exchange.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.task
    assert attempt.is_aborted


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (CODEC.encode(Run(1)), "HF1322"),
        (encode_frame(Frame(0x0500, b"")), "HF1322"),
        (CODEC.encode_start(start_of()), "HF1322"),
        (encode_frame(Frame(0x8011, b"\xff")), "HF1320"),
    ],
    ids=["command", "unknown", "start", "not protobuf"],
)
async def test_a_server_that_breaks_the_protocol_is_told(
    stream: bytes, code: str, served: Served
) -> None:
    attempt, exchange = await served.opened()
    exchange.write(stream)
    exchange.end()
    await exchange.over()
    [error] = exchange.messages()
    assert isinstance(error, Error)
    assert error.code == 571
    assert f"[{code}]" in error.message
    assert attempt.is_aborted


async def test_a_request_that_ends_inside_of_a_message(served: Served) -> None:
    attempt, exchange = await served.opened()
    exchange.end(CODEC.encode(STEP)[:-1])
    await exchange.over()
    [error] = exchange.messages()
    assert isinstance(error, Error)
    assert "[HF1323]" in error.message
    assert attempt.is_aborted


async def test_a_message_that_cannot_be_sent_fails_the_attempt(served: Served) -> None:
    attempt, exchange = await served.opened()
    attempt.say(Run(-1))
    exchange.end()
    await exchange.over()
    [error] = exchange.messages()
    assert isinstance(error, Error)
    assert "[HF2001]" in error.message
    assert attempt.is_aborted


async def test_an_attempt_whose_peer_does_not_read_is_given_up(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler_exchange, "BACKLOG_SIZE_BYTES_MAX", 1000)
    attempt, exchange = await served.opened()
    exchange.is_stuck = True
    for n in range(20):
        attempt.say(Run(n, name="x" * 100))
        await asyncio.sleep(0)
    await exchange.until(lambda: attempt.is_aborted)
    exchange.read_on()
    exchange.end()
    await exchange.over()


async def test_an_attempt_that_ends_without_a_word(served: Served) -> None:
    attempt, exchange = await served.opened()
    attempt.stream.on_closed("lost")
    exchange.end()
    await exchange.over()
    assert exchange.has_ended
    assert exchange.messages() == []


# -- stopping --------------------------------------------------------------------------------------


async def test_draining_suspends_what_waits_and_takes_nothing_new(served: Served) -> None:
    attempt, exchange = await served.opened()
    draining = asyncio.ensure_future(served.endpoint.drain(5))
    await exchange.until(lambda: attempt.is_input_closed)
    late = served.ask("POST", PATH)
    await late.over()
    assert late.status == 503
    assert json.loads(late.body)["error_code"] == "HF1384"
    attempt.say(Suspension((1,), (1,)))
    attempt.stream.on_closed(None)
    exchange.end()
    await draining
    assert exchange.messages() == [Suspension((1,), (1,))]


async def test_what_does_not_end_is_stopped_and_that_is_no_failure(served: Served) -> None:
    attempt, exchange = await served.opened()
    exchange.end()
    await served.endpoint.drain(0.01)
    [error] = exchange.messages()
    assert isinstance(error, Error)
    assert error.next_retry_delay_ms == 0
    assert attempt.is_aborted


async def test_draining_an_empty_endpoint(served: Served) -> None:
    await served.endpoint.drain(5)


async def test_an_attempt_that_opens_while_draining_begins_is_drained(served: Served) -> None:
    exchange = Exchange(served.endpoint)
    exchange.write(JOURNAL[:10])
    await asyncio.sleep(0)
    draining = asyncio.ensure_future(served.endpoint.drain(5))
    await asyncio.sleep(0)
    exchange.write(JOURNAL[10:])
    await exchange.until(lambda: served.port.attempts)
    [attempt] = served.port.attempts
    await exchange.until(lambda: attempt.is_input_closed)
    finish(attempt)
    exchange.end()
    await draining


# -- bugs ------------------------------------------------------------------------------------------


async def test_a_bug_while_messages_are_handed_on_ends_the_response(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempt, exchange = await served.opened()
    monkeypatch.setattr(attempt, "send", lambda notifications: 1 / 0)
    exchange.write(CODEC.encode(STEP))
    exchange.end()
    await exchange.over()
    assert exchange.has_ended
    assert attempt.is_aborted
    assert "an attempt over HTTP failed" in caplog.text


async def test_a_bug_before_the_response_is_left_to_the_asgi_server(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(served.port, "open", lambda *_: 1 / 0)
    exchange = Exchange(served.endpoint)
    exchange.end(JOURNAL)
    await exchange.over()
    assert exchange.status == 0
    assert "a request to the endpoint failed" in caplog.text
