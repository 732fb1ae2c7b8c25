"""Routes to the operations of one invocation, for pages that draw them."""

from __future__ import annotations

from holdfast.admin.entry_list import view_operations
from holdfast.admin.http import Request, json_response
from holdfast.admin.journal_view import view_journal
from holdfast.admin.operation import unknown_invocation
from holdfast.admin.query import parse_payload_size_max
from holdfast.admin.route import Endpoint
from holdfast.admin.summary import summary
from holdfast.engine.row import InvocationRow
from holdfast.server.handle import ServerHandle
from holdfast.web.asgi import Response
from holdfast.web.printed_id import checked_invocation_id
from holdfast.web.problem import Refusal
from holdfast.web.query import known_fields, whole_number

_INDEX_MAX = 2**31 - 1


class EntryEndpoints:
    """The answers, each a method that a route leads to."""

    def __init__(self, handle: ServerHandle) -> None:
        self._handle = handle

    def routes(self) -> tuple[tuple[str, str, Endpoint], ...]:
        """Return method, path and answer of each."""
        return (
            ("GET", "/holdfast/v1/invocations/{id}/operations", self.operations),
            ("GET", "/holdfast/v1/invocations/{id}/journal/{index}", self.entry),
        )

    async def operations(self, request: Request) -> Response:
        """List the operations of an invocation, without payloads, with its summary."""
        known_fields(request.query, ())
        row = await self._invocation(request.params[0])
        details = await self._handle.details.of(row.id) if row.detail_count else ()
        shown = view_operations(await self._handle.journal(row.id), details)
        return json_response(
            {"invocation": summary(row), "now": self._handle.now_ms(), "operations": shown}
        )

    async def entry(self, request: Request) -> Response:
        """Show one entry of a journal with its payload."""
        size_max = parse_payload_size_max(request.query)
        row = await self._invocation(request.params[0])
        index = whole_number(request.params[1], "index", 0, _INDEX_MAX, 0)
        journal = await self._handle.journal(row.id)
        if index >= len(journal):
            raise Refusal(
                404,
                "HF1060",
                f"{row.id} has no entry {index}: its journal has {len(journal)}.",
                hint=f"GET /holdfast/v1/invocations/{row.id}/operations lists them.",
            )
        # Whether a command is completed is found in what follows it.
        return json_response(view_journal(journal, size_max)[index])

    async def _invocation(self, text: str) -> InvocationRow:
        invocation_id = checked_invocation_id(text)
        row = await self._handle.invocation(invocation_id)
        if row is None:
            raise unknown_invocation(invocation_id)
        return row
