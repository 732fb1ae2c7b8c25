"""What strict mode refuses, and what it lets through."""

from __future__ import annotations

import asyncio
import datetime
import importlib
import logging
import os
import random
import secrets
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from datetime import date
from pathlib import Path
from time import time as clock
from typing import Any

import pytest

import holdfast as hf
from holdfast.testing import environment

from ..sdk.loops import both_loops


def run_strictly(body: Callable[[hf.Context], Any], *, strict: bool = True) -> Any:
    service = hf.Service("Trial")

    @service.handler
    async def h(ctx: hf.Context) -> Any:
        result = body(ctx)
        return await result if asyncio.iscoroutine(result) else result

    async def go() -> Any:
        async with environment(hf.App(service), strict=strict) as env:
            return await env.client.call(h)

    return asyncio.run(go())


FORBIDDEN: dict[str, Callable[[], object]] = {
    "time.time": lambda: time.time(),
    "by another name": lambda: clock(),
    "time.monotonic": lambda: time.monotonic(),
    "time.perf_counter_ns": lambda: time.perf_counter_ns(),
    "time.sleep": lambda: time.sleep(0),
    "datetime.now": lambda: str(datetime.datetime.now(datetime.UTC)),
    "date.today": lambda: str(date.today()),  # noqa: DTZ011
    "random.random": lambda: random.random(),
    "random.randint": lambda: random.randint(1, 6),
    "random.choice": lambda: random.choice([1, 2]),
    "uuid.uuid4": lambda: str(uuid.uuid4()),
    "os.urandom": lambda: len(os.urandom(4)),
    "secrets.token_hex": lambda: secrets.token_hex(),
    "secrets.choice": lambda: secrets.choice([1, 2]),
    "open": lambda: open(os.devnull).close(),
    "Path.read_text": lambda: Path(os.devnull).read_text(),
    "os.listdir": lambda: len(os.listdir("/")),
    "socket": lambda: socket.create_connection(("127.0.0.1", 9)).close(),
    "subprocess": lambda: subprocess.run([sys.executable, "-c", ""], check=True).returncode,
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_it_refuses(name: str) -> None:
    call = FORBIDDEN[name]

    with pytest.raises(hf.UsageError, match="HF0552") as caught:
        run_strictly(lambda ctx: call())
    line = call.__code__.co_firstlineno
    assert f"test_strict.py:{line} " in str(caught.value), caught.value
    assert caught.value.hint


@pytest.mark.parametrize("name", sorted(set(FORBIDDEN) - {"socket", "subprocess"}))
def test_it_lets_everything_through_that_is_in_a_step(name: str) -> None:
    call = FORBIDDEN[name]

    async def steps(ctx: hf.Context) -> bool:
        async def body() -> None:
            call()

        await ctx.run("in a thread", lambda: (call(), None)[1])
        await ctx.run("on the loop", body)
        return True

    assert run_strictly(steps)


def test_it_is_off_when_not_asked_for() -> None:
    assert run_strictly(lambda ctx: time.time() > 0, strict=False)
    assert sys.getprofile() is None


def test_a_handler_that_catches_it_does_not_hide_it() -> None:
    def body(ctx: hf.Context) -> bool:
        try:
            time.time()
        except Exception:
            return True
        return False

    with pytest.raises(hf.UsageError, match="HF0552"):
        run_strictly(body)


def test_it_sees_what_tasks_of_the_handler_and_functions_below_it_do() -> None:
    def deep() -> float:
        return time.time()

    async def task() -> float:
        await asyncio.sleep(1)
        return deep()

    async def body(ctx: hf.Context) -> float:
        return await asyncio.create_task(task())

    with pytest.raises(hf.UsageError, match="deep"):
        run_strictly(body)


def test_deterministic_code_is_not_disturbed(tmp_path: Path) -> None:
    package = tmp_path / "late_import.py"
    package.write_text("import json\nVALUE = 1\n")
    sys.path.insert(0, str(tmp_path))
    handler = logging.FileHandler(tmp_path / "log.txt", delay=True)
    logger = logging.getLogger("test_strict")
    logger.addHandler(handler)

    async def body(ctx: hf.Context) -> bool:
        module = importlib.import_module("late_import")
        logger.warning("to a file that is opened now: %s", module.VALUE)
        ctx.random.randint(1, 6)
        random.Random(7).shuffle([1, 2, 3])
        ctx.uuid()
        ctx.now()
        await asyncio.sleep(10)
        asyncio.get_running_loop().time()
        datetime.datetime.fromisoformat("2030-01-01")
        try:
            raise ValueError("to be shown")
        except ValueError:
            logger.exception("with a traceback, which reads this file")
        await ctx.run("real", asyncio.sleep, 0.001)
        return True

    try:
        assert run_strictly(body)
    finally:
        sys.path.remove(str(tmp_path))
        logger.removeHandler(handler)
        handler.close()
        sys.modules.pop("late_import", None)


@both_loops
async def test_the_test_itself_may_do_what_it_likes() -> None:
    service = hf.Service("Trial")

    @service.handler
    async def h(ctx: hf.Context) -> int:
        await ctx.sleep(5)
        return 1

    async with environment(hf.App(service), strict=True) as env:
        waiting = asyncio.ensure_future(env.client.call(h))
        time.time()
        random.random()
        Path(os.devnull).read_text()
        assert await waiting == 1
    assert sys.getprofile() is None
