"""Ids and times that the kit puts into events and calls: the same at each replay."""

from __future__ import annotations

from google.adk.platform import time as platform_time
from google.adk.platform import uuid as platform_uuid

from holdfast.ai import ids


def _new_id() -> str:
    return str(ids.new_uuid())


def _now_s() -> float:
    return ids.now().timestamp()


def use_our_platform() -> None:
    """Let the kit take ids and times from us, in the running context and in tasks made in it.

    Outside of handlers they are real ones, so nothing changes there.
    """
    platform_uuid.set_id_provider(_new_id)
    platform_time.set_time_provider(_now_s)
