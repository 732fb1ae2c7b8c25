"""`holdfast signal`, against a server that answers what a test wants."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from cli_harness import holdfast
from test_call import INGRESS, JSON, Fake, Reply

ROUTE = "/holdfast/v1/invocations/inv_1x/signals"


@pytest.fixture
def fake() -> Iterator[Fake]:
    fake = Fake()
    fake.replies = [Reply(202, b"")]
    yield fake
    fake.close()


def test_it_sends_a_value(fake: Fake) -> None:
    done = holdfast("signal", "inv_1x", "new message", '{"by": "Ada"}', env=fake.env)
    assert (done.returncode, done.stdout) == (0, "")
    assert "Sent new message to inv_1x" in done.stderr
    assert fake.asked[0].line == f"POST {ROUTE}/new%20message"
    assert fake.asked[0].body == b'{"by": "Ada"}'
    assert fake.asked[0].headers["content-type"] == "application/json"


def test_it_rejects(fake: Fake) -> None:
    done = holdfast("signal", "inv_1x", "go", "--reject", "no", "--json", env=fake.env)
    printed = json.loads(done.stdout)
    assert (printed["invocation_id"], printed["signal"]) == ("inv_1x", "go")
    assert (fake.asked[0].line, fake.asked[0].body) == (f"POST {ROUTE}/go/reject", b"no")


def test_it_refuses_a_value_and_a_reason(fake: Fake) -> None:
    done = holdfast("signal", "inv_1x", "go", "1", "--reject", "no", env=fake.env)
    assert done.returncode == 2
    assert "HF0525" in done.stderr
    assert not fake.asked


def test_it_says_that_it_is_too_late(fake: Fake) -> None:
    body = {"message": "It has completed.", "error_code": "HF0524", "source": "ingress"}
    fake.replies = [Reply(409, json.dumps(body).encode(), (JSON, INGRESS))]
    done = holdfast("signal", "inv_1x", "go", env=fake.env)
    assert done.returncode == 4
    assert "HF0524" in done.stderr
