from __future__ import annotations

import asyncio
from typing import Any

import pytest
from port_harness import (
    CODEC,
    ENTRIES,
    INVOCATION_ID,
    OK,
    FakeStream,
    endpoint_of,
    joined,
    replayed,
    start_of,
)

from holdfast.domain.deployment import HttpVersion
from holdfast.domain.message import (
    KIND_RUN,
    Completion,
    End,
    Error,
    Input,
    Output,
    ProposeRunCompletion,
    Run,
    Signal,
    Sleep,
    Start,
    Suspension,
    Value,
    Void,
)
from holdfast.domain.target import Manifest
from holdfast.protocol.restate.codec import CommandAck
from holdfast.protocol.restate.frame import Frame, encode_frame
from holdfast.transport.base import Refusal
from holdfast.transport.http import exchange as exchange_module
from holdfast.transport.http.port import HttpPort

ENDING = CODEC.encode(Output(Value(b"1"))) + CODEC.encode(End())


def step(completion_id: int) -> Completion:
    return Completion(KIND_RUN, completion_id, Value(b"1"))


# -- a request, and its response -------------------------------------------------------------------


async def test_first_attempt_sends_start_and_input_and_waits() -> None:
    async with joined() as it:
        stream, _, exchange = await it.open(key="a/ü", retry_count=3)
        await exchange.until(lambda: len(replayed(exchange)[1]) == 1)
        start, entries = replayed(exchange)
        assert start is not None
        assert (start.known_entries, start.retry_count, start.random_seed) == (1, 3, 7)
        assert entries == list(ENTRIES)
        assert not exchange.has_ended
        assert exchange.fields == {
            ":method": "POST",
            ":scheme": "http",
            ":authority": it.scripted.uri.removeprefix("http://"),
            ":path": "/invoke/Greeter/greet",
            "content-type": "application/vnd.restate.invocation.v6",
            "accept": "application/vnd.restate.invocation.v6",
            "x-restate-invocation-id": INVOCATION_ID,
            "x-restate-service-key": "a%2F%C3%BC",
        }
        assert not stream.is_over


async def test_base_path_query_and_additional_headers_are_kept() -> None:
    headers = {"authorization": "Bearer x", "x-tenant": "t"}
    async with joined("/base/?team=shop", headers=headers) as it:
        _, _, exchange = await it.open()
        assert exchange.fields[":path"] == "/base/invoke/Greeter/greet?team=shop"
        assert exchange.fields["authorization"] == "Bearer x"
        assert exchange.fields["x-tenant"] == "t"
        assert "x-restate-service-key" not in exchange.fields


async def test_an_older_endpoint_is_spoken_to_in_its_version() -> None:
    async with joined(protocol_version_max=5) as it:
        _, _, exchange = await it.open()
        assert exchange.fields["content-type"] == "application/vnd.restate.invocation.v5"


async def test_entries_are_replayed_in_recorded_order() -> None:
    entries = (
        *ENTRIES,
        Run(1, name="a"),
        Sleep(99, 2),
        Signal(Void(), index=17),
        step(1),
        Completion(0x800C, 2, Void()),
    )
    async with joined() as it:
        _, _, exchange = await it.open(entries)
        await exchange.until(lambda: len(replayed(exchange)[1]) == len(entries))
        start, replay = replayed(exchange)
        assert start is not None
        assert start.known_entries == len(entries)
        assert tuple(replay) == entries


async def test_messages_go_both_ways_while_the_exchange_is_open() -> None:
    async with joined() as it:
        stream, handler, exchange = await it.opened()
        exchange.send(CODEC.encode(Run(1)) + CODEC.encode(ProposeRunCompletion(1, Value(b"1"))))
        await stream.until(lambda: len(stream.messages) == 2)
        handler.send([step(1), Signal(Void(), index=1)])
        await exchange.until(lambda: len(replayed(exchange)[1]) == 3)
        assert replayed(exchange)[1][1:] == [step(1), Signal(Void(), index=1)]
        exchange.send(ENDING)
        assert await stream.reason() is None
        await exchange.until(lambda: exchange.has_ended)
        exchange.end()
        assert stream.messages[2:] == [Output(Value(b"1")), End()]
        assert exchange.reset_code is None


async def test_a_response_cut_at_every_position_says_the_same() -> None:
    said = CODEC.encode(Run(1, name="é")) + ENDING
    async with joined() as it:
        for cut in range(1, len(said)):
            stream, _, exchange = await it.opened()
            exchange.send(said[:cut])
            await asyncio.sleep(0)
            exchange.send(said[cut:])
            exchange.end()
            assert await stream.reason() is None
            assert stream.messages == [Run(1, name="é"), Output(Value(b"1")), End()]


async def test_bytes_after_the_end_are_ignored() -> None:
    async with joined() as it:
        stream, _, exchange = await it.opened()
        exchange.send(ENDING + b"\xff" * 100)
        assert await stream.reason() is None
        exchange.send(b"\xff" * 100)
        exchange.end()
        assert stream.messages == [Output(Value(b"1")), End()]


@pytest.mark.parametrize(
    "ending", [Suspension((1,)), Error(500, "no"), End()], ids=["suspension", "error", "end"]
)
async def test_every_terminal_message_ends_the_exchange(ending: Any) -> None:
    async with joined() as it:
        stream, _, exchange = await it.opened()
        exchange.send(CODEC.encode(ending))
        assert await stream.reason() is None
        assert stream.messages == [ending]
        await exchange.until(lambda: exchange.has_ended)


async def test_an_endpoint_that_does_not_end_its_response_is_reset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange_module, "DRAIN_TIMEOUT_S", 0.01)
    async with joined() as it:
        stream, _, exchange = await it.opened()
        exchange.send(ENDING)
        assert await stream.reason() is None
        await exchange.until(lambda: exchange.reset_code is not None)


async def test_a_command_with_the_ack_flag_is_acknowledged_when_it_is_recorded() -> None:
    async with joined() as it:
        stream, _, exchange = await it.opened((*ENTRIES, Run(1), step(1)))
        exchange.send(CODEC.encode(Sleep(1, 2)))
        exchange.send(CODEC.encode(Sleep(1, 3), is_ack_requested=True))
        await stream.until(lambda: len(stream.messages) == 2)
        await asyncio.sleep(0.01)
        assert len(replayed(exchange)[1]) == 3
        stream.unrecorded.pop()()
        await exchange.until(lambda: len(replayed(exchange)[1]) == 4)
        # Input is 0 and Run is 1; the completion is no command.
        assert replayed(exchange)[1][-1] == CommandAck(3)


async def test_what_comes_before_the_request_has_left_is_sent_behind_the_journal() -> None:
    async with joined() as it:
        stream = FakeStream()
        handler = it.port.open(start_of(), ENTRIES, stream)
        handler.send([step(1)])
        handler.close_input()
        exchange = await it.scripted.exchange()
        await exchange.until(lambda: exchange.has_ended)
        assert replayed(exchange) == (start_of(), [*ENTRIES, step(1)])


# -- closing -----------------------------------------------------------------------------------


async def test_close_input_is_the_end_of_the_request_and_nothing_follows_it() -> None:
    async with joined() as it:
        stream, handler, exchange = await it.opened()
        handler.send([step(1)])
        handler.close_input()
        handler.send([step(2)])
        await exchange.until(lambda: exchange.has_ended)
        assert replayed(exchange)[1][1:] == [step(1)]
        exchange.send(CODEC.encode(Suspension((2,), (1,))))
        exchange.end()
        assert await stream.reason() is None


@pytest.mark.parametrize("is_answered", [False, True], ids=["before headers", "after headers"])
async def test_abort_resets_the_exchange_and_the_server_hears_no_more(is_answered: bool) -> None:
    async with joined() as it:
        stream, handler, exchange = await it.open()
        if is_answered:
            exchange.respond(200, OK)
            exchange.send(CODEC.encode(Run(1)))
            await stream.until(lambda: stream.messages)
        handler.abort()
        await exchange.until(lambda: exchange.reset_code is not None)
        assert exchange.reset_code == 8
        assert not stream.is_over


async def test_abort_before_the_first_byte() -> None:
    async with joined() as it:
        stream = FakeStream()
        it.port.open(start_of(), ENTRIES, stream).abort()
        await asyncio.sleep(0.01)
        assert it.scripted.count == 0
        assert not stream.is_over


async def test_closing_the_port_ends_attempts_and_refuses_new_ones() -> None:
    async with joined() as it:
        stream, _, exchange = await it.opened()
        await it.port.close()
        assert await stream.reason() == "the endpoint was removed"
        await exchange.until(lambda: exchange.reset_code is not None)
        late = FakeStream()
        it.port.open(start_of(), ENTRIES, late)
        assert not late.is_over, "the server must not be called from inside its own call"
        assert await late.reason() == "the endpoint was removed"


# -- request, then response ------------------------------------------------------------------------


@pytest.mark.parametrize("version", list(HttpVersion), ids=lambda v: v.name)
async def test_request_response_mode_sends_all_and_then_reads_all(version: HttpVersion) -> None:
    if version is HttpVersion.HTTP_2:
        async with joined(is_bidirectional=False) as it:
            stream, handler, exchange = await it.open()
            handler.send([step(1)])
            await exchange.until(lambda: exchange.has_ended)
            assert replayed(exchange)[1] == list(ENTRIES)
            exchange.respond(200, OK)
            exchange.send(CODEC.encode(Run(1)) + CODEC.encode(Suspension((1,))))
            exchange.end()
            assert await stream.reason() is None
            assert stream.messages == [Run(1), Suspension((1,))]
        return
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        requests.append(head + await reader.readexactly(size))
        body = CODEC.encode(Run(1)) + CODEC.encode(Suspension((1,)))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\n" % OK[0][1].encode())
        writer.write(b"content-length: %d\r\n\r\n" % len(body))
        writer.write(body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    uri = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    endpoint = endpoint_of(uri, http_version=version, is_bidirectional=False)
    port = HttpPort("one", endpoint, Manifest(services=()))
    stream = FakeStream()
    port.open(start_of(), ENTRIES, stream)
    assert await stream.reason() is None
    assert stream.messages == [Run(1), Suspension((1,))]
    assert requests[0].startswith(b"POST /invoke/Greeter/greet HTTP/1.1\r\n")
    assert b"\r\nx-restate-invocation-id: " in requests[0]
    await port.close()
    server.close()


# -- endpoints that fail ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "code", "refusal"),
    [
        (404, [], "HF1341", Refusal(404)),
        (401, [], "HF1341", Refusal(401)),
        (500, [], "HF1341", Refusal(500)),
        (301, [("location", "http://127.0.0.1:1/")], "HF1341", Refusal(301)),
        (204, [], "HF1341", Refusal(204)),
        (413, [], "HF1347", Refusal(413)),
        (415, [], "HF1346", Refusal(415, is_counted=False)),
        (429, [], "HF1345", Refusal(429)),
        (503, [("retry-after", "3")], "HF1345", Refusal(503, 3000)),
        (503, [("retry-after", "99999999999999")], "HF1345", Refusal(503, 86_400_000)),
        (503, [("retry-after", "soon")], "HF1345", Refusal(503)),
        (503, [("retry-after", f"Wed, 21 Oct {10**20} 07:28:00 GMT")], "HF1345", Refusal(503)),
        (
            503,
            [
                ("date", "Mon, 23 Nov 2026 14:00:00 GMT"),
                ("retry-after", "Mon, 23 Nov 2026 14:00:07 GMT"),
            ],
            "HF1345",
            Refusal(503, 7000),
        ),
        (200, [], "HF1342", Refusal(500)),
        (200, [("content-type", "text/html")], "HF1342", Refusal(500)),
        (200, [("content-type", f"{OK[0][1][:-1]}5")], "HF1342", Refusal(500)),
    ],
)
async def test_an_answer_that_does_not_begin_the_attempt(
    status: int, headers: list[tuple[str, str]], code: str, refusal: Refusal
) -> None:
    async with joined() as it:
        stream, _, exchange = await it.open()
        exchange.respond(status, headers)
        exchange.end()
        reason = await stream.reason()
        assert reason is not None
        assert f"[{code}]" in reason
        assert stream.refused[0][1] == refusal
        assert it.scripted.count == 1


@pytest.mark.parametrize("status", [502, 504])
async def test_a_gateway_that_fails_is_a_lost_attempt(status: int) -> None:
    async with joined() as it:
        stream, _, exchange = await it.open()
        exchange.respond(status)
        exchange.end()
        assert f"with {status} [HF1343]" in (await stream.reason() or "")
        assert stream.closed


async def test_content_type_may_have_parameters() -> None:
    async with joined() as it:
        stream, _, exchange = await it.open()
        exchange.respond(200, [("content-type", OK[0][1].upper() + "; charset=x")])
        exchange.send(ENDING)
        exchange.end()
        assert await stream.reason() is None


async def test_an_endpoint_that_is_down() -> None:
    port = HttpPort("down", endpoint_of("http://127.0.0.1:1/"), Manifest(services=()))
    stream = FakeStream()
    port.open(start_of(), ENTRIES, stream)
    reason = await stream.reason()
    assert reason is not None
    assert "cannot be reached" in reason
    assert "Connection refused" in reason
    assert "[HF1340]" in reason
    await port.close()


@pytest.mark.parametrize("is_answered", [False, True], ids=["before headers", "after headers"])
@pytest.mark.parametrize("way", ["reset", "hang up"])
async def test_a_broken_connection_is_a_lost_attempt(way: str, is_answered: bool) -> None:
    async with joined() as it:
        stream, _, exchange = await it.open()
        if is_answered:
            exchange.respond(200, OK)
            exchange.send(CODEC.encode(Run(1)))
            await stream.until(lambda: stream.messages)
        if way == "reset":
            exchange.reset(2)
        else:
            exchange.connection.hang_up()
        reason = await stream.reason()
        assert reason is not None
        assert "[HF1343]" in reason
        assert stream.closed
        # And the next attempt finds its way.
        stream, _, exchange = await it.opened()
        exchange.send(ENDING)
        exchange.end()
        assert await stream.reason() is None


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"", "without saying how the attempt ended"),
        (CODEC.encode(Output(Value(b"1"))), "without saying how the attempt ended"),
        (ENDING[:-1], "HF1323"),
        (CODEC.encode(Run(1))[:9], "HF1323"),
    ],
    ids=["nothing", "no terminal message", "truncated end", "truncated frame"],
)
async def test_a_response_that_ends_too_early(said: bytes, code: str) -> None:
    async with joined() as it:
        stream, _, exchange = await it.opened()
        exchange.send(said)
        exchange.end()
        assert code in (await stream.reason() or "")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (encode_frame(Frame(0x0500, b"")), "HF1322"),
        (encode_frame(Frame(0xFC01, b"x")), "HF1322"),
        (CODEC.encode_start(start_of()), "HF1322"),
        (CODEC.encode(step(1)), "HF1322"),
        (CODEC.encode_command_ack(CommandAck(1)), "HF1322"),
        (encode_frame(Frame(0x0401, b"")), "HF1320"),
        (encode_frame(Frame(0x0411, b"\xff\xff\xff")), "HF1320"),
        (encode_frame(Frame(0x0403, b"\x0a\x01\xff\x1a\x00")), "HF1320"),
        (b"\x04\x11\x00\x00\xff\xff\xff\xff", "HF1321"),
    ],
    ids=[
        "unknown type",
        "custom type",
        "start",
        "notification",
        "ack",
        "output without result",
        "no protobuf",
        "state key that is not UTF-8",
        "over the size limit",
    ],
)
async def test_a_malformed_message_ends_its_attempt_and_no_other(said: bytes, code: str) -> None:
    async with joined() as it:
        other, other_handler, other_exchange = await it.opened()
        stream, _, exchange = await it.opened()
        exchange.send(CODEC.encode(Run(1)) + said)
        reason = await stream.reason()
        assert reason is not None
        assert f"[{code}]" in reason
        # What came before it stands, and the endpoint is told to stop.
        assert stream.messages == [Run(1)]
        await exchange.until(lambda: exchange.reset_code is not None)
        other_handler.send([step(1)])
        other_exchange.send(ENDING)
        assert await other.reason() is None


# -- requests that were not looked at --------------------------------------------------------------


async def test_a_request_refused_by_goaway_is_sent_again_on_another_connection() -> None:
    async with joined() as it:
        stream, handler, first = await it.open()
        await first.until(lambda: len(replayed(first)[1]) == 1)
        handler.send([step(1)])
        await first.until(lambda: len(replayed(first)[1]) == 2)
        first.connection.go_away(0)
        second = await it.scripted.exchange()
        assert second.connection is not first.connection
        await second.until(lambda: len(replayed(second)[1]) == 2)
        assert replayed(second) == replayed(first)
        handler.send([step(2)])
        second.respond(200, OK)
        await second.until(lambda: len(replayed(second)[1]) == 3)
        second.send(ENDING)
        assert await stream.reason() is None


async def test_a_request_that_is_always_refused_is_given_back() -> None:
    async with joined() as it:
        it.scripted.on_exchange = lambda exchange: (it.scripted.put(exchange), exchange.reset(7))
        stream, _, _ = await it.open()
        reason = await stream.reason()
        assert reason is not None
        assert "[HF1345]" in reason
        assert stream.refused[0][1] == Refusal(503, is_counted=False)
        assert it.scripted.count == 1 + exchange_module.RESEND_MAX


async def test_a_request_is_not_sent_twice_once_it_was_answered() -> None:
    async with joined() as it:
        stream, _, exchange = await it.opened()
        exchange.send(CODEC.encode(Run(1)))
        await stream.until(lambda: stream.messages)
        exchange.reset(7)
        assert "[HF1343]" in (await stream.reason() or "")
        assert it.scripted.count == 1


async def test_more_exchanges_than_one_connection_carries_open_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("holdfast.transport.http.client.STREAMS_MAX", 2)
    async with joined() as it:
        opened = [await it.opened() for _ in range(5)]
        assert len({id(exchange.connection) for _, _, exchange in opened}) == 3
        for stream, _, exchange in opened:
            exchange.send(ENDING)
            exchange.end()
            assert await stream.reason() is None
        _, _, again = await it.opened()
        assert again.connection is opened[0][2].connection


async def test_a_connection_is_left_before_servers_break_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("holdfast.transport.http.client.EXCHANGES_MAX", 2)
    async with joined() as it:
        opened = [await it.opened() for _ in range(3)]
        first, second, third = (exchange.connection for _, _, exchange in opened)
        assert first is second
        assert third is not first
        for stream, _, exchange in opened:
            exchange.send(ENDING)
            exchange.end()
            assert await stream.reason() is None


# -- peers that are slow ---------------------------------------------------------------------------


async def test_a_response_is_read_no_faster_than_it_is_recorded() -> None:
    async with joined() as it:
        stream, _, exchange = await it.opened()
        big = CODEC.encode(Run(1, name="x" * 100_000))
        exchange.send(big * 200)
        await stream.until(lambda: stream.unrecorded)
        await asyncio.sleep(0.05)
        held = len(stream.messages)
        assert held < 10
        assert exchange.unsent_size > 10_000_000
        while len(stream.messages) < 200:
            await stream.until(lambda: stream.unrecorded or len(stream.messages) == 200)
            for then in stream.unrecorded:
                then()
            stream.unrecorded.clear()
            await asyncio.sleep(0)
        exchange.send(ENDING)
        assert await stream.reason() is None


async def test_an_endpoint_that_does_not_read_loses_its_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange_module, "BACKLOG_SIZE_BYTES_MAX", 1_000_000)
    async with joined() as it:
        it.scripted.is_reading = False
        stream, handler, exchange = await it.opened()
        exchange.send(CODEC.encode(Run(1)))
        await stream.until(lambda: stream.messages)
        large = Completion(KIND_RUN, 1, Value(bytes(100_000)))
        for _ in range(30):
            handler.send([large])
        assert "does not read" in (await stream.reason() or "")
        # Others do not suffer for it, and as soon as it reads, it is told.
        _, _, other = await it.opened()
        assert other.connection is not exchange.connection
        it.scripted.is_reading = True
        exchange.credit()
        await exchange.until(lambda: exchange.reset_code is not None)


async def test_a_large_journal_goes_through_the_flow_control_of_its_peer() -> None:
    entries = (Input(Value(bytes(3_000_000))), *(step(n) for n in range(1000)))
    async with joined() as it:
        stream, _, exchange = await it.open(entries)
        await exchange.until(lambda: len(exchange.received) > 3_000_000)
        await exchange.until(lambda: len(replayed(exchange)[1]) == 1001, 10)
        exchange.respond(200, OK)
        exchange.send(ENDING)
        assert await stream.reason() is None


async def test_a_message_that_cannot_be_sent_ends_the_attempt() -> None:
    async with joined() as it:
        stream, handler, _ = await it.opened()
        handler.send([Signal(Value(bytes(40_000_000)), index=17)])
        assert "[HF1321]" in (await stream.reason() or "")
        broken: Start = start_of(random_seed=-1)
        late = FakeStream()
        it.port.open(broken, ENTRIES, late)
        assert "[HF2001]" in (await late.reason() or "")
