"""`holdfast invocations tail`, against a server that answers what a test wants."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from cli_harness import holdfast
from test_call import INGRESS, JSON, Fake, Reply

EVENTS = ("content-type", "text/event-stream")
STREAM = (
    b"retry: 1000\n\n"
    b'id: 1-1\ndata: "Once "\n\n'
    b'id: 2-1\ndata: {"type":"text","delta":"upon"}\n\n'
    b'id: 3-2\ndata: {"rows":3}\n\n'
    b'id: 4-1\nevent: replace\ndata: {"lane":1,"from":1,"to":3}\n\n'
    b'id: 5-3\ndata: "\xc3\xa4 time\\n"\n\n'
)
END = b'id: 5-end\nevent: end\ndata: {"result":1}\n\n'
FAILED = b'id: 5-end\nevent: end\ndata: {"error":{"code":418,"message":"no tea"}}\n\n'


@pytest.fixture
def fake() -> Iterator[Fake]:
    fake = Fake()
    yield fake
    fake.close()


def test_text_is_printed_as_it_is_and_the_rest_in_lines(fake: Fake) -> None:
    fake.replies = [Reply(200, STREAM + END, (EVENTS, ("x-restate-id", "inv_1x")))]
    done = holdfast("inv", "tail", "inv_1x", "--after", "0-1", env=fake.env)
    assert done.returncode == 0, done.stderr
    assert done.stdout == 'Once upon\n{"rows": 3}\nä time\n'
    assert "forget what it has said (lane 1)" in done.stderr
    assert fake.asked[0].line == "GET /holdfast/v1/invocations/inv_1x/stream?stream=default"
    assert fake.asked[0].headers["last-event-id"] == "0-1"


def test_as_json_each_event_is_a_line(fake: Fake) -> None:
    fake.replies = [Reply(200, STREAM + END, (EVENTS,))]
    done = holdfast("inv", "tail", "inv_1x", "--stream", "log", "--json", env=fake.env)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0] == {"id": "1-1", "lane": 1, "chunk": "Once "}
    assert lines[3] == {"id": "4-1", "replaced_lane": 1}
    assert len(lines) == 5
    assert fake.asked[0].line.endswith("?stream=log")


def test_it_fails_as_the_invocation_does(fake: Fake) -> None:
    fake.replies = [Reply(200, STREAM + FAILED, (EVENTS,))]
    done = holdfast("inv", "tail", "inv_1x", env=fake.env)
    assert done.returncode == 1
    assert "HF1240" in done.stderr
    assert "no tea" in done.stderr


def test_an_unknown_invocation(fake: Fake) -> None:
    body = {"message": "There is no invocation.", "error_code": "HF1004", "source": "ingress"}
    fake.replies = [Reply(404, json.dumps(body).encode(), (JSON, INGRESS))]
    done = holdfast("inv", "tail", "inv_1x", env=fake.env)
    assert done.returncode == 3
    assert "There is no invocation." in done.stderr


def test_a_bad_name(fake: Fake) -> None:
    done = holdfast("inv", "tail", "inv_1x", "--stream", "a/b", env=fake.env)
    assert done.returncode == 2
    assert "HF0562" in done.stderr
