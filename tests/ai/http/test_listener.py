"""Following an answer: whole ones, and those that are not."""

from __future__ import annotations

import json

import pytest

from holdfast.ai.http.listener import Listener, StreamBroken
from holdfast.ai.provider.route import ModelRequest, model_request

SSE = {"content-type": "text/event-stream; charset=utf-8"}


def request() -> ModelRequest:
    body = json.dumps({"model": "m", "messages": []}).encode()
    found = model_request("POST", "api.openai.com", "/v1/chat/completions", body)
    assert found is not None
    return found


def test_json_is_kept_as_it_was_sent() -> None:
    listener = Listener(request())
    listener.begin(200, {"content-type": "application/json", "x-request-id": "r", "server": "s"})
    for part in (b'{"a": 1.', b"10}\n"):
        assert not listener.feed(part)
    answer = listener.close()
    assert json.loads(answer.content) == {"a": 1.1}
    assert b"1.10" in answer.content
    assert answer.headers == {"content-type": "application/json", "x-request-id": "r"}


@pytest.mark.parametrize("body", [b"<html>busy</html>", b"", b'{"a": '])
def test_what_is_no_json_is_no_answer(body: bytes) -> None:
    listener = Listener(request())
    listener.begin(200, {"content-type": "text/html"})
    listener.feed(body)
    with pytest.raises(StreamBroken, match="no JSON"):
        listener.close()


def test_an_error_may_be_anything() -> None:
    listener = Listener(request())
    listener.begin(502, {"content-type": "text/html"})
    listener.feed(b"<html>\xff")
    assert listener.close().content == b"<html>\xff"


def test_the_end_of_a_stream_is_seen() -> None:
    listener = Listener(request())
    listener.begin(200, SSE)
    assert not listener.feed(b'data: {"choices": []}\n\nda')
    assert listener.feed(b"ta: [DONE]\n\n")
    assert listener.close().text == 'data: {"choices": []}\n\ndata: [DONE]\n\n'


def test_a_stream_that_only_stops_is_broken() -> None:
    listener = Listener(request())
    listener.begin(200, SSE)
    listener.feed(b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n')
    with pytest.raises(StreamBroken, match="before its answer"):
        listener.close()


def test_a_stream_without_its_marker_is_whole_if_it_says_so() -> None:
    listener = Listener(request())
    listener.begin(200, SSE)
    listener.feed(b'data: {"choices": [{"finish_reason": "stop"}]}')
    assert listener.close().status == 200


def test_an_error_in_a_stream_breaks_it() -> None:
    listener = Listener(request())
    listener.begin(200, SSE)
    with pytest.raises(StreamBroken, match="overloaded"):
        listener.feed(b'data: {"error": {"message": "overloaded"}}\n\n')
