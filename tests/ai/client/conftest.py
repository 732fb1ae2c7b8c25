"""Fixtures for the clients of model providers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from holdfast import ai
from holdfast.testing.scripted_model import ScriptedModel

from . import trip


@pytest.fixture(autouse=True)
def instrumented(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # LiteLLM asks the network for prices when it is imported, unless it is told not to.
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    trip.ran.clear()
    ai.instrument()
    yield
    ai.uninstrument()


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    with trip.trip_model() as server:
        yield server
