"""Exceptions and functions that misbehave: the attempt always ends, and says what it can."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

import holdfast as hf
from holdfast.domain.message import Failure

from .loops import both_loops
from .test_attempt import server_of


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Forgetful(hf.RetryableError):
    def __init__(self) -> None:  # does not call that of its parent
        pass


class Hollow(hf.TerminalError):
    def __init__(self) -> None:
        self.metadata: Any = "no mapping"


class Prickly(Exception):
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


HOSTILE = [Mute, Forgetful, Hollow, Prickly]


@both_loops
@pytest.mark.parametrize("in_step", [False, True])
@pytest.mark.parametrize("kind", HOSTILE)
async def test_an_exception_that_cannot_be_read_fails_the_attempt(
    kind: type[Exception], in_step: bool
) -> None:
    failures = [kind]

    async def fail() -> str:
        if failures:
            raise failures.pop()()
        return "at last"

    async def handler(ctx: hf.Context) -> str:
        return await (ctx.run("fail", fail) if in_step else fail())

    server = server_of(handler)
    async with asyncio.timeout(5):
        outcome = await server.finish()
    if kind is Hollow:
        assert outcome == Failure(500, "")
    else:
        assert len(server.errors) == 1
        assert kind.__name__ in server.errors[0].message


@both_loops
@pytest.mark.parametrize("mock", [Mock(return_value=3), AsyncMock(return_value=3)])
async def test_a_mock_is_a_function_of_no_type(mock: Any) -> None:
    async def handler(ctx: hf.Context) -> int:
        return await ctx.run("mock", mock)

    async with asyncio.timeout(5):
        assert await server_of(handler).run() == 3
