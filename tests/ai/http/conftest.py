"""Fixtures for the neutral layer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from holdfast import ai
from holdfast.testing.scripted_model import ScriptedModel


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    with ScriptedModel() as server:
        yield server


@pytest.fixture
def instrumented() -> Iterator[None]:
    ai.instrument()
    yield
    ai.uninstrument()
