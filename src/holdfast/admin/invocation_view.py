"""Invocations as JSON."""

from __future__ import annotations

from enum import IntEnum
from typing import cast

import msgspec

from holdfast.domain.target import Target
from holdfast.engine.row import InvocationRow, Status
from holdfast.web.instant import iso_time

STATUS_NAMES = {status: status.name.lower().replace("_", "-") for status in Status}
"""Status as it is printed, such as `backing-off`."""

STATUSES = {name: status for status, name in STATUS_NAMES.items()}


def view_invocation(row: InvocationRow) -> dict[str, object]:
    """Show all fields of an invocation; times as ISO 8601, null where there is none yet."""
    target = row.target
    shown: dict[str, object] = {
        "id": row.id,
        "target": str(target),
        "service": target.service,
        "key": target.key,
        "handler": target.handler,
    }
    shown.update(_view_fields(row))
    return shown


def _view_fields(struct: msgspec.Struct) -> dict[str, object]:
    shown: dict[str, object] = {}
    for name in struct.__struct_fields__:
        value: object = getattr(struct, name)
        if name.endswith(("at_ms", "since_ms")):
            assert isinstance(value, int), f"{name} is a time"
            shown[name.removesuffix("_ms")] = iso_time(value) if value else None
        elif not isinstance(value, Target):
            shown[name] = _view_value(value)
    return shown


def _view_value(value: object) -> object:
    match value:
        case Status():
            return STATUS_NAMES[value]
        case IntEnum():
            return value.name.lower()
        case msgspec.Struct():
            return _view_fields(value)
        case tuple():
            return [_view_value(item) for item in cast("tuple[object, ...]", value)]
        case _:
            return value
