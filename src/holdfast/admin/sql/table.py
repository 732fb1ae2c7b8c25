"""All tables."""

from __future__ import annotations

from typing import Any

from holdfast.admin.sql.catalog import DEPLOYMENT, SERVICE
from holdfast.admin.sql.column import AnyTable, Column, Kind, Table, no_rows
from holdfast.admin.sql.event import EVENT
from holdfast.admin.sql.invocation import INBOX, INVOCATION, STATE, STATUS
from holdfast.admin.sql.journal import JOURNAL
from holdfast.admin.sql.keyed import HOLDER, PROMISE
from holdfast.admin.sql.keyed import STATE as KEYED_STATE

_ABSENT = "Always empty: there are no virtual queues."


def _absent(name: str) -> Table[Any]:
    id_ = Column[Any]("id", Kind.TEXT, "always null", lambda it: None)
    return Table(name, _ABSENT, (id_,), no_rows, {})


TABLES: tuple[AnyTable, ...] = (
    INVOCATION,
    STATUS,
    STATE,
    JOURNAL,
    EVENT,
    KEYED_STATE,
    INBOX,
    HOLDER,
    PROMISE,
    DEPLOYMENT,
    SERVICE,
    *map(
        _absent,
        (
            "sys_locks",
            "sys_rules",
            "sys_scheduler",
            "sys_user_limits",
            "sys_vqueues",
            "sys_vqueue_meta",
            "sys_vqueue_entry_status",
        ),
    ),
)
"""In the order of the documents."""
