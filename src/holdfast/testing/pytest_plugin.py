"""Fixtures and options for pytest, which finds them where Holdfast is installed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from holdfast.testing import Environment
    from holdfast.testing.scripted_model import ScriptedModel


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("holdfast")
    group.addoption(
        "--holdfast-always-replay",
        action="store_true",
        help="holdfast_env: end the attempt at each wait and replay the handler.",
    )
    group.addoption(
        "--holdfast-strict",
        action="store_true",
        help="holdfast_env: refuse clocks, randomness and I/O in handlers, outside of steps.",
    )


@pytest.fixture
def holdfast_env(
    request: pytest.FixtureRequest,
) -> Callable[..., AbstractAsyncContextManager[Environment]]:
    """Return `holdfast.testing.environment`, with defaults from the command line.

    Use it as `async with holdfast_env(app) as env:`.
    """
    from holdfast.testing import environment

    return functools.partial(
        environment,
        always_replay=bool(request.config.getoption("--holdfast-always-replay")),
        strict=bool(request.config.getoption("--holdfast-strict")),
    )


@pytest.fixture
def scripted_model() -> Iterator[ScriptedModel]:
    """Run a scripted model; give it scenarios with `scripted_model.scenario(name, turns)`."""
    from holdfast.testing.scripted_model import ScriptedModel

    with ScriptedModel() as model:
        yield model
