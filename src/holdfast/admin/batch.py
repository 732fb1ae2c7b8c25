"""One verb for many invocations, which are named or found by a filter."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import takewhile

import msgspec

from holdfast.admin.http import Request, decode_body, json_response
from holdfast.admin.invocation_view import STATUS_NAMES
from holdfast.admin.operation import (
    PAUSE,
    RESTART,
    VERBS,
    Done,
    Verb,
    Wish,
    refused_in,
    unknown_invocation,
)
from holdfast.admin.query import LIMIT_MAX, Cursor, parse_cursor, parse_status, print_cursor
from holdfast.domain.errors import ConflictError, HoldfastError
from holdfast.engine.row import InvocationRow, Status
from holdfast.server.handle import ServerHandle
from holdfast.storage.base import InvocationFilter
from holdfast.web.asgi import Response
from holdfast.web.printed_id import checked_invocation_id
from holdfast.web.problem import Refusal, shown


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request. Unknown members would silently widen a filter: they are refused."""

    ids: list[str] | None = None
    service: str | None = None
    handler: str | None = None
    key: str | None = None
    status: list[str] | None = None
    created_before: datetime | None = None
    created_after: datetime | None = None
    is_all: bool = msgspec.field(default=False, name="all")
    dry_run: bool = False
    limit: int = LIMIT_MAX
    before: str | None = None
    deployment: str | None = None


class _IdBatch(msgspec.Struct):
    """The body of Restate's own batch routes."""

    invocation_ids: list[str]


_decode_batch = msgspec.json.Decoder(_Batch).decode
_decode_id_batch = msgspec.json.Decoder(_IdBatch).decode


class _Item(msgspec.Struct):
    """What happened, or would happen, to one invocation."""

    id: str
    target: str | None
    status: str | None
    """Before."""
    result: str | None = None
    new_invocation_id: str | None = None
    error: HoldfastError | None = None

    def view(self) -> dict[str, object]:
        """Return it as JSON."""
        shown_item: dict[str, object] = {
            "id": self.id,
            "target": self.target,
            "status": self.status,
            "result": self.result,
        }
        if self.new_invocation_id is not None:
            shown_item["new_invocation_id"] = self.new_invocation_id
        if self.error is not None:
            shown_item["error"] = {
                "message": self.error.message,
                "error_code": self.error.code,
                "hint": self.error.hint,
            }
        return shown_item


class BatchEndpoints:
    """The routes of many invocations."""

    def __init__(self, handle: ServerHandle) -> None:
        self._handle = handle

    async def batch(self, request: Request) -> Response:
        """Do something to all invocations that a filter finds, or that are named."""
        verb = _verb_of(request.params[0])
        body = _read_batch(request.body)
        following: str | None = None
        if body.ids is not None:
            ids = _checked_ids(body.ids)
            rows = [await self._handle.invocation(each) for each in ids]
        else:
            found, following = await self._find(verb, body)
            ids, rows = [row.id for row in found], list(found)
        if body.dry_run:
            items = [_foresee(verb, *each) for each in zip(ids, rows, strict=True)]
        else:
            wish = Wish(body.deployment, 0, request.headers.get("idempotency-key"))
            items = await asyncio.gather(
                *(self._do(verb, wish, *each) for each in zip(ids, rows, strict=True))
            )
        refused = sum(item.error is not None for item in items)
        return json_response(
            {
                "verb": verb.name,
                "dry_run": body.dry_run,
                "matched": len(items),
                "done": len(items) - refused,
                "refused": refused,
                "next": following,
                "invocations": [item.view() for item in items],
            }
        )

    async def id_batch(self, request: Request) -> Response:
        """Do something to named invocations, in the form of Restate's web UI."""
        verb = _verb_of(request.params[0])
        body = decode_body(request.body, _decode_id_batch, _bad_body)
        ids = _checked_ids(body.invocation_ids)
        items = await asyncio.gather(*(self._do(verb, Wish(), each, None) for each in ids))
        done = [item for item in items if item.error is None]
        succeeded: list[object] = [item.id for item in done]
        if verb is RESTART:
            succeeded = [
                {"old_invocation_id": item.id, "new_invocation_id": item.new_invocation_id}
                for item in done
            ]
        failed = [
            {"invocation_id": item.id, "error": item.error.message}
            for item in items
            if item.error is not None
        ]
        return json_response({"succeeded": succeeded, "failed": failed})

    async def _find(self, verb: Verb, body: _Batch) -> tuple[list[InvocationRow], str | None]:
        """Return a page of what a filter finds, newest first, and where the next one begins."""
        query = _filter_of(verb, body)
        before = _start_of(body)
        rows: Sequence[InvocationRow] = await self._handle.invocations(
            query, before, body.limit + 1
        )
        if body.created_after is not None:
            after_ms = _ms(body.created_after)
            rows = list(takewhile(lambda row: row.created_at_ms > after_ms, rows))
        page = list(rows[: body.limit])
        return page, print_cursor(page[-1]) if len(rows) > body.limit else None

    async def _do(
        self, verb: Verb, wish: Wish, invocation_id: str, row: InvocationRow | None
    ) -> _Item:
        item = _item(invocation_id, row)
        try:
            done: Done = await verb.do(self._handle, invocation_id, wish)
        except HoldfastError as error:
            # One that is refused must not hide what was done to the others.
            item.error = error
            return item
        item.result, item.new_invocation_id = done.result, done.new_invocation_id
        return item


def _item(invocation_id: str, row: InvocationRow | None) -> _Item:
    if row is None:
        return _Item(invocation_id, None, None)
    return _Item(invocation_id, str(row.target), STATUS_NAMES[row.status])


def _foresee(verb: Verb, invocation_id: str, row: InvocationRow | None) -> _Item:
    """Say what would be done to an invocation, as far as its status tells."""
    item = _item(invocation_id, row)
    if row is None:
        item.error = unknown_invocation(invocation_id)
    elif row.status in verb.statuses:
        item.result = verb.result
    elif verb is PAUSE and row.status is Status.PAUSED:
        item.result = verb.again
    elif row.status is Status.COMPLETED:
        item.error = ConflictError(
            f"Invocation {row.id} has completed; there is nothing to {verb.name}."
        )
    else:
        item.error = refused_in(verb, row.id, row.status)
    return item


def _verb_of(name: str) -> Verb:
    verb = VERBS.get(name)
    if verb is None:
        raise Refusal(
            404, "HF1005", f"There is no {shown(name)}.", hint=f"There are: {', '.join(VERBS)}."
        )
    return verb


def _read_batch(content: bytes) -> _Batch:
    """Read a body, and refuse one that names nothing: it would mean everything.

    Raises:
        Refusal: HF1256.
    """
    body = decode_body(content, _decode_batch, _bad_body)
    if not 1 <= body.limit <= LIMIT_MAX:
        raise _bad_body(f"limit is {body.limit}; expected 1 to {LIMIT_MAX}")
    fields = (
        body.service,
        body.handler,
        body.key,
        body.status,
        body.created_before,
        body.created_after,
    )
    is_filtered = any(field is not None for field in fields)
    if body.ids is not None and (is_filtered or body.is_all):
        raise _bad_body("ids and a filter do not go together")
    if body.ids is None and not is_filtered and not body.is_all:
        raise _bad_body('it names no invocations; to mean all, say "all": true')
    return body


def _bad_body(what: str) -> Refusal:
    members = ", ".join(_Batch.__struct_encode_fields__)
    return Refusal(
        400,
        "HF1256",
        f"The body does not say which invocations are meant: {what}.",
        hint=f"Send a JSON object; its members may be: {members}.",
    )


def _checked_ids(ids: list[str]) -> list[str]:
    if not 1 <= len(ids) <= LIMIT_MAX:
        raise _bad_body(f"{len(ids)} ids; expected 1 to {LIMIT_MAX}")
    return list(dict.fromkeys(checked_invocation_id(each) for each in ids))


def _filter_of(verb: Verb, body: _Batch) -> InvocationFilter:
    statuses = verb.selected
    if body.status is not None:
        statuses = tuple(parse_status(name) for name in body.status)
        useless = [each for each in statuses if each not in verb.statuses]
        if useless or not statuses:
            names = ", ".join(STATUS_NAMES[each] for each in verb.statuses)
            found = ", ".join(STATUS_NAMES[each] for each in useless) or "nothing"
            raise Refusal(
                400,
                "HF1257",
                f"{verb.name} can do nothing to what is {found}.",
                hint=f"Statuses for it are: {names}.",
            )
    return InvocationFilter(body.service, body.handler, body.key, statuses)


def _start_of(body: _Batch) -> Cursor | None:
    cursors: list[Cursor] = []
    if body.before is not None:
        cursors.append(parse_cursor(body.before))
    if body.created_before is not None:
        # The empty string is before all ids.
        cursors.append((_ms(body.created_before), ""))
    return min(cursors, default=None)


def _ms(at: datetime) -> int:
    # Without an offset it would mean another time on each machine, so it means UTC.
    return int((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() * 1000)
