"""`instrument` and `uninstrument`."""

from __future__ import annotations

import subprocess
import sys

import aiohttp
import httpx
import httpx2

from holdfast import ai

METHODS = [
    (httpx2.AsyncClient, "send"),
    (httpx2.Client, "send"),
    (httpx.AsyncClient, "send"),
    (httpx.Client, "send"),
    (aiohttp.ClientSession, "_request"),
]


def found() -> list[object]:
    return [owner.__dict__[name] for owner, name in METHODS]


def test_it_is_idempotent_and_can_be_taken_back() -> None:
    before = found()
    ai.instrument()
    ours = found()
    assert all(one is not other for one, other in zip(before, ours, strict=True))
    ai.instrument()
    assert found() == ours
    ai.uninstrument()
    assert found() == before
    ai.uninstrument()
    assert found() == before


def test_what_others_put_over_it_stays() -> None:
    before = httpx2.Client.send
    ai.instrument()
    try:
        theirs = lambda *arguments: None  # noqa: E731
        httpx2.Client.send = theirs  # type: ignore[method-assign,assignment]
        ai.uninstrument()
        assert httpx2.Client.__dict__["send"] is theirs
    finally:
        httpx2.Client.send = before  # type: ignore[method-assign]
        ai.uninstrument()


def test_nothing_is_patched_or_loaded_by_an_import() -> None:
    program = (
        "import sys, holdfast.ai\n"
        "loaded = {'httpx', 'httpx2', 'aiohttp', 'openai', 'anthropic'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
