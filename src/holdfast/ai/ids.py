"""Ids and times for what frameworks put into messages: the same at each replay.

In a handler they come from the running branch. Inside the body of a step, in threads and outside of
handlers they are real ones: there they are recorded with the step, or not at all.
"""

from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, datetime

from holdfast.ai.guard import current, whereabouts


def new_uuid() -> uuid.UUID:
    """Return a new version 4 UUID."""
    if whereabouts() == "handler":
        return current().uuid()
    return uuid.UUID(bytes=os.urandom(16), version=4)


def new_id(prefix: str = "") -> str:
    """Return a new id: the prefix and 32 hexadecimal digits."""
    return f"{prefix}{new_uuid().hex}"


def now() -> datetime:
    """Return the time in UTC; in a handler that of the latest result that was handed over."""
    if whereabouts() == "handler":
        return current().now()
    return datetime.fromtimestamp(time.time_ns() / 1e9, UTC)
