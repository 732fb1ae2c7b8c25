"""Approvals as JSON."""

from __future__ import annotations

import msgspec

from holdfast.domain.approval import ApprovalStatus
from holdfast.domain.ids import awakeable_id
from holdfast.engine.row import ApprovalRow
from holdfast.server.approval_port import Approval
from holdfast.storage.base import StoredApproval
from holdfast.web.instant import iso_time

STATUS_NAMES = {status: status.name.lower() for status in ApprovalStatus}
STATUSES: dict[str, tuple[ApprovalStatus, ...]] = {
    **{name: (status,) for status, name in STATUS_NAMES.items()},
    "decided": (ApprovalStatus.APPROVED, ApprovalStatus.REJECTED),
    "closed": tuple(status for status in ApprovalStatus if status is not ApprovalStatus.OPEN),
}
"""What can be asked for, and what it means."""


def view_stored(stored: StoredApproval) -> dict[str, object]:
    """Show an approval as in lists, without what it carries."""
    approval_id = awakeable_id(stored.invocation_id, stored.signal_index)
    return _head(approval_id, stored.invocation_id, stored.row)


def view_approval(approval: Approval) -> dict[str, object]:
    """Show an approval whole: with payload, form and arguments, and with the decision."""
    asked, decision = approval.asked, approval.decision
    shown = _head(approval.id, approval.invocation_id, approval.row)
    shown["why"] = "" if asked is None else asked.why
    for name in ("payload", "form", "arguments", "arguments_schema"):
        content: bytes = b"" if asked is None else getattr(asked, name)
        # Embedded as it is: decoding and encoding again would round large numbers.
        shown[name] = msgspec.Raw(content) if content else None
    shown["is_purged"] = asked is None
    if decision is not None:
        shown["value"] = decision.value
        shown["changed_arguments"] = decision.arguments
    return shown


def _head(approval_id: str, invocation_id: str, row: ApprovalRow) -> dict[str, object]:
    is_open = row.status is ApprovalStatus.OPEN
    return {
        "id": approval_id,
        "status": STATUS_NAMES[row.status],
        "title": row.title,
        "assignees": row.assignees,
        "service": row.target.service,
        "handler": row.target.handler,
        "key": row.target.key,
        "invocation_id": invocation_id,
        "asked_at": iso_time(row.asked_at_ms),
        "expires_at": iso_time(row.expires_at_ms) if row.expires_at_ms else None,
        "on_timeout": row.on_timeout,
        "decided_at": None if is_open else iso_time(row.decided_at_ms),
        "by": row.by,
        "comment": row.comment,
    }
