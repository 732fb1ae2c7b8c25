"""The inbox of approvals: the implementation of `approval_port.Approvals`, and its secret."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import msgspec

from holdfast.domain.approval import (
    TEXT_LENGTH_MAX,
    TITLE_LENGTH_MAX,
    ApprovalStatus,
    DecisionContent,
    decode_decision,
)
from holdfast.domain.approval_link import invocation_key, open_link
from holdfast.domain.errors import ConflictError, HoldfastError, NotFoundError, UsageError
from holdfast.domain.ids import IdError, awakeable_id, parse_awakeable_id
from holdfast.domain.json_schema import Mismatch, check_value
from holdfast.domain.message import AskApproval, Signal, Value
from holdfast.engine.approval import approval_place
from holdfast.engine.decision import Reply
from holdfast.engine.record import ApprovalDecided
from holdfast.engine.row import ApprovalRow, InvocationRow, Key, Lookup, Status, Table
from holdfast.server.approval_port import Approval, Verdict
from holdfast.server.clock import Clock
from holdfast.server.partition import Partition
from holdfast.storage.base import ApprovalFilter, ApprovalPlace, Store, StoredApproval

_SECRET_NAME = "approval links"
_SECRET_SIZE = 32
_LOOKS = 50
_LOOK_EVERY_S = 0.02


class LinkKeys:
    """Signs and opens the links of all approvals.

    Args:
        secret: Chosen by the operator; None: one that the store keeps.
        public_url: Where people reach the server, without a slash at the end; empty: nowhere.
    """

    def __init__(self, secret: str | None = None, public_url: str = "") -> None:
        self.public_url = public_url
        self._secret = b""
        if secret is not None:
            self._secret = blake2b(secret.encode(), digest_size=_SECRET_SIZE).digest()

    async def load(self, store: Store, clock: Clock) -> None:
        """Read the secret of the store, which is made at its first start."""
        if not self._secret:
            self._secret = await store.keep_secret(_SECRET_NAME, clock.entropy(_SECRET_SIZE))

    def key_of(self, invocation_id: str) -> bytes:
        """Return the key of an invocation's links."""
        return invocation_key(self._secret, invocation_id)


class HostApprovals:
    """Approvals of the invocations of one host.

    Args:
        store: Where they are.
        clock: Says what has expired.
        keys: Open links.
        partition_of: Leads to the partition of an invocation.
    """

    def __init__(
        self, store: Store, clock: Clock, keys: LinkKeys, partition_of: Callable[[str], Partition]
    ) -> None:
        self._store = store
        self._clock = clock
        self._keys = keys
        self._partition_of = partition_of

    async def find(
        self, query: ApprovalFilter, before: ApprovalPlace | None, limit: int
    ) -> list[StoredApproval]:
        """Return approvals, newest first."""
        return await self._store.approvals(query, before, limit)

    def assignee_of(self, approval_id: str, token: str) -> str:
        """Return who decides by a token."""
        invocation_id, _ = _parsed(approval_id)
        return open_link(self._keys.key_of(invocation_id), approval_id, token, self._clock.now_ms())

    async def get(self, approval_id: str) -> Approval:
        """Return an approval."""
        invocation_id, index = _parsed(approval_id)
        partition = self._partition_of(invocation_id).index
        row = await self._row(partition, invocation_id, index)
        if row is None:
            raise NotFoundError(
                f"There is no approval {approval_id}.",
                code="HF1410",
                hint="It was never asked for here, or its invocation's retention has passed.",
            )
        asked_at: Key = (Lookup.ENTRY, invocation_id, row.entry_index)
        wanted = [asked_at]
        if row.decision_index is not None:
            wanted.append((Lookup.ENTRY, invocation_id, row.decision_index))
        entries = await self._store.load(partition, wanted)
        asked = entries[asked_at]
        # After a purge of the journal other entries, or none, are in these places.
        return Approval(
            awakeable_id(invocation_id, index),
            invocation_id,
            row,
            asked if isinstance(asked, AskApproval) and asked.index == index else None,
            _decision_in(entries[wanted[-1]], index),
        )

    async def _row(self, partition: int, invocation_id: str, index: int) -> ApprovalRow | None:
        """Return the row of an approval, which may be on its way here.

        A handler knows the id before it has asked, and a step that gives the id away begins beside
        the record of the question. Whoever is that quick need not see that there is none yet.
        """
        place, owner = approval_place(invocation_id, index), (Table.INVOCATION, invocation_id)
        for _ in range(_LOOKS):
            found = await self._store.load(partition, [place, owner])
            row, invocation = found[place], found[owner]
            if isinstance(row, ApprovalRow):
                return row
            if not isinstance(invocation, InvocationRow) or invocation.status is not Status.RUNNING:
                break
            await asyncio.sleep(_LOOK_EVERY_S)
        return None

    async def decide(self, approval_id: str, verdict: Verdict) -> Approval:
        """Decide an approval."""
        approval = await self.get(approval_id)
        invocation_id, index = _parsed(approval_id)
        if approval.row.status is not ApprovalStatus.OPEN:
            raise _decided(approval)
        assert approval.asked is not None, f"{approval_id} is open and its journal is gone"
        record = ApprovalDecided(
            invocation_id,
            index,
            verdict.is_approved,
            _checked_value(approval.asked, verdict),
            _checked_arguments(approval.asked, verdict),
            _checked_text(verdict.by, TITLE_LENGTH_MAX, "by"),
            _checked_text(verdict.comment, TEXT_LENGTH_MAX, "comment"),
        )
        answer = await self._partition_of(invocation_id).propose(record)
        after = await self.get(approval_id)
        if answer.reply is not Reply.ACCEPTED:
            raise _decided(after)
        return after


def _parsed(approval_id: str) -> tuple[str, int]:
    try:
        return parse_awakeable_id(approval_id)
    except IdError as error:
        raise UsageError(
            f"{error}.", code="HF1003", hint="Copy the whole id, as it was printed."
        ) from error


def _decision_in(entry: object, index: int) -> DecisionContent | None:
    if isinstance(entry, Signal) and entry.index == index and isinstance(entry.result, Value):
        return decode_decision(entry.result.content)
    return None


def _decided(approval: Approval) -> HoldfastError:
    row = approval.row
    at = datetime.fromtimestamp(row.decided_at_ms / 1000, UTC).isoformat(timespec="seconds")
    match row.status:
        case ApprovalStatus.EXPIRED:
            what = f"expired at {at}: nobody had decided"
        case ApprovalStatus.WITHDRAWN:
            what = f"was withdrawn at {at}: nobody waits for the decision any more"
        case _:
            by = f" by {row.by}" if row.by else ""
            what = f"was {row.status.name.lower()}{by} at {at}"
    return ConflictError(
        f"Approval {approval.id} {what}.",
        code="HF1411",
        hint=f"holdfast approvals get {approval.id} shows it.",
    )


def _checked_value(asked: AskApproval, verdict: Verdict) -> bytes:
    if verdict.value is None:
        if asked.form and verdict.is_approved:
            raise _misfit("value", "the form of this approval must be filled in - at `$`")
        return b""
    if not asked.form:
        raise _misfit("value", "this approval has no form: leave the value out - at `$`")
    value = _decoded("value", verdict.value)
    _check("value", asked.form, value)
    return verdict.value


def _checked_arguments(asked: AskApproval, verdict: Verdict) -> bytes:
    if verdict.arguments is None:
        return b""
    if not asked.arguments_schema:
        raise _misfit("arguments", "the arguments of this approval cannot be changed - at `$`")
    changes = _decoded("arguments", verdict.arguments)
    if not isinstance(changes, dict):
        raise _misfit("arguments", "expected a JSON object - at `$`")
    merged: dict[str, Any] = {**msgspec.json.decode(asked.arguments), **changes}
    _check("arguments", asked.arguments_schema, merged)
    return msgspec.json.encode(merged)


def _checked_text(text: str, length_max: int, what: str) -> str:
    if len(text) > length_max:
        raise _misfit(what, f"at most {length_max} characters, found {len(text)} - at `$`")
    return text


def _decoded(what: str, content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _misfit(what, f"not JSON: {error} - at `$`") from error


def _check(what: str, schema: bytes, value: object) -> None:
    try:
        check_value(schema, value)
    except Mismatch as error:
        raise _misfit(what, str(error)) from error


def _misfit(what: str, reason: str) -> UsageError:
    return UsageError(
        f"A decision with this {what} cannot be taken: {reason}.",
        code="HF1412",
        hint="Nothing was decided. Correct it and decide again.",
    )
