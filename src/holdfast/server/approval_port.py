"""What the front doors may ask about approvals."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from holdfast.domain.approval import DecisionContent
from holdfast.domain.message import AskApproval
from holdfast.engine.row import ApprovalRow
from holdfast.storage.base import ApprovalFilter, ApprovalPlace, StoredApproval


class Approval(NamedTuple):
    """An approval with what it shows and how it was decided."""

    id: str
    """Id of its awakeable."""
    invocation_id: str
    row: ApprovalRow
    asked: AskApproval | None
    """None: the journal was purged."""
    decision: DecisionContent | None
    """What the handler was told; None: nothing yet, or the journal was purged."""


class Verdict(NamedTuple):
    """What a person says."""

    is_approved: bool
    value: bytes | None = None
    """JSON that is filled in; None: nothing."""
    arguments: bytes | None = None
    """JSON object of arguments that are changed; None: none are."""
    by: str = ""
    comment: str = ""


class Approvals(Protocol):
    """The inbox."""

    async def find(
        self, query: ApprovalFilter, before: ApprovalPlace | None, limit: int
    ) -> list[StoredApproval]:
        """Return approvals, newest first."""
        ...

    async def get(self, approval_id: str) -> Approval:
        """Return an approval.

        Raises:
            UsageError: HF1003, no such id can exist.
            NotFoundError: HF1410, there is none.
        """
        ...

    async def decide(self, approval_id: str, verdict: Verdict) -> Approval:
        """Decide an approval. It is durable, and the handler will hear of it, when this returns.

        Raises:
            UsageError: HF1003, no such id can exist; HF1412, what is filled in does not fit.
            NotFoundError: HF1410, there is none.
            ConflictError: HF1411, it is decided, has expired or was withdrawn; says when, by whom.
        """
        ...

    def assignee_of(self, approval_id: str, token: str) -> str:
        """Return who decides by the token of a signed link; empty: whoever has it.

        Raises:
            UsageError: HF1003, no such id can exist.
            LinkError: The token opens nothing, or nothing any more.
        """
        ...
