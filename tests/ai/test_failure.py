"""Exceptions survive the journal with their type."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import openai
import pytest

from holdfast.ai import failure
from holdfast.domain.errors import TerminalError

REQUEST = httpx2.Request("POST", "https://user:pw@model.example/v1/x?key=secret")


def bad_request() -> openai.BadRequestError:
    body = {"message": "too long", "code": "context_length_exceeded", "param": None, "type": "x"}
    response = httpx2.Response(400, json={"error": body}, request=REQUEST)
    return openai.BadRequestError("too long", response=response, body=body)


def through_the_journal(error: TerminalError) -> TerminalError:
    """What the server gives back of a failure."""
    metadata = json.loads(json.dumps(error.metadata))
    return failure.restored(TerminalError(error.message, code=error.code, metadata=metadata))


def test_an_error_of_a_client() -> None:
    recorded = failure.terminal(bad_request(), "the model refused the request (400): too long")
    assert "secret" not in str(recorded.metadata)
    error: Any = through_the_journal(recorded)
    assert isinstance(error, openai.BadRequestError)
    assert isinstance(error, TerminalError)
    assert str(error) == "too long"
    assert error.status_code == 400
    assert error.body["code"] == error.code == "context_length_exceeded"
    assert error.response.json()["error"]["message"] == "too long"
    assert error.metadata == {"error_type": "openai.BadRequestError"}
    again: Any = through_the_journal(recorded)
    assert type(again) is type(error)
    assert again.args == error.args


class Odd(Exception):
    """Has what no JSON can hold, and rules for its making."""

    def __init__(self, left: int, right: object) -> None:
        super().__init__(left, right)
        self.left = left
        self.right = right

    def __str__(self) -> str:
        return f"odd {self.left}"


def test_what_has_no_json_is_left_out() -> None:
    error: Any = through_the_journal(failure.terminal(Odd(1, object())))
    assert isinstance(error, Odd)
    assert str(error) == "odd 1"
    assert error.left == 1
    assert not hasattr(error, "right")


class Own(TerminalError):
    """A terminal error of the user."""


def test_terminal_errors_keep_code_and_metadata() -> None:
    plain = TerminalError("no", code=402, metadata={"a": "b"})
    assert failure.terminal(plain) is plain
    assert failure.restored(plain) is plain
    own = through_the_journal(failure.terminal(Own("no", code=402, metadata={"a": "b"})))
    assert type(own) is Own
    assert own.code == 402
    assert own.metadata["a"] == "b"


@pytest.mark.parametrize(
    "record", ["{", "{}", '{"module":"os","name":"system","text":"x","args":[],"attributes":{}}']
)
def test_unreadable_records_leave_the_failure(record: str) -> None:
    found = TerminalError("it failed", metadata={"holdfast_exception": record})
    assert failure.restored(found) is found
    assert str(found) == "it failed"
    assert found.metadata == {}


def test_types_that_are_not_loaded_are_not_imported() -> None:
    here = failure.terminal(Odd(1, 2))
    record = json.loads(here.metadata["holdfast_exception"])
    record["module"] = "antigravity_module"
    found = TerminalError("it failed", metadata={"holdfast_exception": json.dumps(record)})
    assert failure.restored(found) is found


class Shape(Exception):
    def __init__(self, **attributes: object) -> None:
        super().__init__("x")
        vars(self).update(attributes)


def test_statuses_are_found_by_shape() -> None:
    assert failure.status_of(bad_request()) == 400
    assert failure.status_of(Shape(code=429)) == 429
    assert failure.status_of(Shape(status=503)) == 503
    assert failure.status_of(Shape(response=Shape(status_code=404))) == 404
    assert failure.status_of(Shape(code="rate_limited", status="x")) is None
    wrapped = RuntimeError("outer")
    wrapped.__cause__ = bad_request()
    assert failure.is_hopeless(wrapped)
    for status in (408, 409, 429, 500, 503, 401, 403):
        assert not failure.is_hopeless(Shape(status_code=status))


class Closed(Exception):
    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError("no attributes here")


def test_exceptions_that_take_no_notes() -> None:
    failure.note(Closed("x"))
