"""What Holdfast ships for testing agents, also found as `hf.testing`.

The scripted model is next door, in `holdfast.testing.scripted_model`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.domain.recording import Recording
    from holdfast.testing.embedded import Environment, environment
    from holdfast.testing.rerun import ReplayReport, replay

__all__ = ["Environment", "Recording", "ReplayReport", "environment", "replay"]

_WHERE = {
    "Environment": "holdfast.testing.embedded",
    "Recording": "holdfast.domain.recording",
    "ReplayReport": "holdfast.testing.rerun",
    "environment": "holdfast.testing.embedded",
    "replay": "holdfast.testing.rerun",
}


def __getattr__(name: str) -> Any:
    # Imported by those who use it: the scripted model, next door, needs no server.
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'holdfast.testing' has no attribute {name!r}")
