"""What tests of the AI integrations share."""

from __future__ import annotations

import pytest

from holdfast.ai import guard


@pytest.fixture(autouse=True)
def _no_warnings_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_warned", set())
