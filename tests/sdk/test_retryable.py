"""Failures that say when to try again, and policies with a time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

import holdfast as hf
from holdfast.domain.message import DelayRule, Error, Failure, Output
from holdfast.sdk.retryable import RETRY_AFTER_MS_MAX, AskedDelay, asked_delay

from .fake_server import FakeServer

NOW_MS = 1_700_000_000_000


class Response:
    def __init__(self, headers: Any) -> None:
        self.headers = headers


class StatusError(Exception):
    """As clients of HTTP APIs raise it."""

    def __init__(self, headers: Any) -> None:
        super().__init__("Error code: 429")
        self.response = Response(headers)


class BareError(Exception):
    """As aiohttp and urllib raise it."""

    def __init__(self, headers: Any) -> None:
        super().__init__("429")
        self.headers = headers


class Hostile(Exception):
    """Its attributes raise."""

    @property
    def response(self) -> Any:
        raise RuntimeError("not set")

    @property
    def headers(self) -> Any:
        raise AttributeError("not there")


def date(seconds: float) -> str:
    at = datetime.fromtimestamp(NOW_MS / 1000, UTC) + timedelta(seconds=seconds)
    return format_datetime(at, usegmt=True)


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def ring() -> Exception:
    one, two = ValueError(), KeyError()
    one.__cause__, two.__cause__ = two, one
    return one


LATER = hf.RetryableError("later", delay=5)
LIMITED = StatusError({"retry-after": "7"})


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError(), None),
        (hf.RetryableError("no delay"), None),
        (LATER, AskedDelay(5_000, is_least=False)),
        (hf.RetryableError("later", timedelta(milliseconds=20)), AskedDelay(20, is_least=False)),
        (LIMITED, AskedDelay(7_000, is_least=True)),
        (StatusError({"Retry-After": "0.5"}), AskedDelay(500, is_least=True)),
        (StatusError({"retry-after-ms": "30", "retry-after": "1"}), AskedDelay(30, is_least=True)),
        (BareError({"Retry-After": 3}), AskedDelay(3_000, is_least=True)),
        (StatusError({"retry-after": date(90)}), AskedDelay(90_000, is_least=True)),
        (StatusError({"retry-after": date(-90)}), AskedDelay(0, is_least=True)),
        (StatusError({"retry-after": date(1e6)}), AskedDelay(RETRY_AFTER_MS_MAX, is_least=True)),
        (StatusError({"retry-after": "1e99"}), AskedDelay(RETRY_AFTER_MS_MAX, is_least=True)),
        (StatusError({"retry-after": "nan"}), None),
        (StatusError({"retry-after": "-1"}), None),
        (StatusError({"retry-after": "soon"}), None),
        (StatusError({"retry-after": "Mon, 99 Xyz 2023 00:00:00 GMT"}), None),
        (StatusError({"retry-after": f"Wed, 21 Oct {10**20} 07:28:00 GMT"}), None),
        (StatusError({}), None),
        (StatusError(None), None),
        (StatusError(42), None),
        (BareError(["retry-after"]), None),
        (Hostile(), None),
        (ring(), None),
        (caused(RuntimeError("wrapped"), LIMITED), AskedDelay(7_000, is_least=True)),
        (caused(RuntimeError("wrapped"), caused(KeyError(), LATER)), AskedDelay(5_000, False)),
        (caused(hf.RetryableError(delay=1), LIMITED), AskedDelay(1_000, is_least=False)),
        (caused(hf.RetryableError(), LIMITED), AskedDelay(7_000, is_least=True)),
        (ExceptionGroup("g", [LATER, LATER]), AskedDelay(5_000, is_least=False)),
        (ExceptionGroup("g", [LATER, LIMITED]), AskedDelay(7_000, is_least=True)),
        (ExceptionGroup("g", [LATER, ValueError()]), AskedDelay(5_000, is_least=True)),
        (ExceptionGroup("g", [ValueError()]), None),
        (ExceptionGroup("g", [caused(KeyError(), LIMITED)]), AskedDelay(7_000, is_least=True)),
    ],
)
def test_what_a_failure_asks_for(error: Exception, expected: AskedDelay | None) -> None:
    assert asked_delay(error, NOW_MS) == expected


@pytest.mark.parametrize("delay", [-1, "soon", float("nan")])
def test_a_bad_delay_is_refused(delay: Any) -> None:
    with pytest.raises(hf.UsageError, match="HF0507"):
        hf.RetryableError("later", delay=delay)


def server_of(fn: Callable[[hf.Context], Awaitable[Any]], **options: Any) -> FakeServer:
    service = hf.Service("S")
    service.handler(name="h", **options)(fn)
    return FakeServer(hf.App(service), "S/h")


def failing(*errors: Exception) -> Callable[[], Awaitable[str]]:
    """A body that raises these, then ends."""
    left = list(errors)

    async def body() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return body


def asked(errors: list[Error]) -> list[tuple[int | None, DelayRule]]:
    return [(error.next_retry_delay_ms, error.delay_rule) for error in errors]


async def test_a_handler_chooses_its_next_attempt() -> None:
    body = failing(LATER, LIMITED, ValueError())

    async def handler(ctx: hf.Context) -> str:
        return await body()

    server = server_of(handler)
    assert await server.run() == "done"
    assert asked(server.errors) == [
        (5_000, DelayRule.CHOSEN),
        (7_000, DelayRule.LEAST),
        (None, DelayRule.UNCOUNTED),
    ]


async def test_a_step_without_a_policy_asks_the_handlers() -> None:
    body = failing(LATER, LIMITED)

    async def handler(ctx: hf.Context) -> str:
        return await ctx.run("x", body)

    server = server_of(handler)
    assert await server.run() == "done"
    assert asked(server.errors) == [(5_000, DelayRule.CHOSEN), (7_000, DelayRule.LEAST)]


async def test_a_step_with_a_policy_counts_what_it_chose() -> None:
    body = failing(LATER, LIMITED, StatusError({"retry-after": "1"}), LATER)
    policy = hf.RetryPolicy(initial_interval=2, factor=1, max_attempts=4)

    async def handler(ctx: hf.Context) -> str:
        return await ctx.run("x", body, retry=policy)

    server = server_of(handler)
    result = await server.finish()
    assert isinstance(result, Failure)
    assert result.message == "RetryableError: later"
    assert asked(server.errors) == [
        (delay_ms, DelayRule.UNCOUNTED) for delay_ms in (5_000, 7_000, 2_000)
    ]


async def test_a_step_ends_by_time_counted_from_its_first_failure() -> None:
    body = failing(*[ConnectionError("no")] * 99)
    policy = hf.RetryPolicy(
        initial_interval=1, factor=1, max_attempts=None, max_duration=timedelta(seconds=2.5)
    )

    async def handler(ctx: hf.Context) -> str:
        try:
            return await ctx.run("x", body, retry=policy)
        except hf.TerminalError as error:
            return error.message

    server = server_of(handler)
    server.is_time_taken = True
    assert await server.run() == "ConnectionError: no"
    assert [error.next_retry_delay_ms for error in server.errors] == [1_000, 1_000]


@pytest.mark.parametrize("wrong", [{"max_duration": -1}, {"max_duration": "1h"}])
def test_bad_limits_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(hf.UsageError, match="max_duration"):
        hf.RetryPolicy(**wrong)


# -- terminal errors -------------------------------------------------------------------------------


class OutOfStock(hf.TerminalError):
    def __init__(self, item: str) -> None:
        self.item = item


class Odd(hf.TerminalError):
    def __init__(self) -> None:
        super().__init__("odd")
        self.code = 7  # type: ignore[assignment]
        self.message = ValueError("x")  # type: ignore[assignment]
        self.metadata = {"n": 1}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            hf.TerminalError("no", code=418, metadata={"why": "tea"}),
            Failure(418, "no", {"why": "tea"}),
        ),
        (caused(hf.TerminalError("no", code=404), LIMITED), Failure(404, "no")),
        (OutOfStock("chair"), Failure(500, "")),
        (Odd(), Failure(500, "x", {"n": "1"})),
    ],
)
async def test_terminal_errors_are_recorded_as_they_are(
    error: hf.TerminalError, expected: Failure
) -> None:
    async def handler(ctx: hf.Context) -> None:
        await asyncio.sleep(0)
        raise error

    server = server_of(handler)
    assert await server.finish() == expected
    assert server.errors == []
    assert Output(expected) in [
        Output(entry.result) for entry in server.journal if isinstance(entry, Output)
    ]
