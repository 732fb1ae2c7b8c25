"""All tables."""

from __future__ import annotations

from holdfast.admin.sql.absent import ABSENT
from holdfast.admin.sql.catalog import DEPLOYMENT, SERVICE
from holdfast.admin.sql.column import AnyTable
from holdfast.admin.sql.detail import MODEL_CALL, TOOL_CALL
from holdfast.admin.sql.event import EVENT
from holdfast.admin.sql.invocation import INBOX, INVOCATION, STATE, STATUS
from holdfast.admin.sql.journal import JOURNAL
from holdfast.admin.sql.keyed import HOLDER, PROMISE
from holdfast.admin.sql.keyed import STATE as KEYED_STATE

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
    MODEL_CALL,
    TOOL_CALL,
    *ABSENT,
)
"""In the order of the documents."""
