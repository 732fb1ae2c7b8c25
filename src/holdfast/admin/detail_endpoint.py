"""Routes to what model calls leave behind."""

from __future__ import annotations

from holdfast.admin.detail_view import view_model_call, view_prompt, view_totals
from holdfast.admin.http import Request, json_response
from holdfast.admin.operation import unknown_invocation
from holdfast.admin.query import LIMIT_DEFAULT, LIMIT_MAX
from holdfast.admin.route import Endpoint
from holdfast.domain.detail import ModelCall
from holdfast.engine.row import InvocationRow, StoredDetail
from holdfast.server.detail import DetailPlace, place_of
from holdfast.server.handle import ServerHandle
from holdfast.storage.scan import Comparison, Condition
from holdfast.web.asgi import Response
from holdfast.web.printed_id import checked_invocation_id
from holdfast.web.problem import Refusal, shown
from holdfast.web.query import known_fields, last_of, whole_number

_NUMBER_MAX = 2**31 - 1


class DetailEndpoints:
    """The answers, each a method that a route leads to."""

    def __init__(self, handle: ServerHandle) -> None:
        self._handle = handle

    def routes(self) -> tuple[tuple[str, str, Endpoint], ...]:
        """Return method, path and answer of each."""
        return (
            ("GET", "/holdfast/v1/model-calls", self.recent),
            ("GET", "/holdfast/v1/invocations/{id}/model-calls", self.calls),
            ("GET", "/holdfast/v1/invocations/{id}/model-calls/{completion_id}", self.call),
        )

    async def recent(self, request: Request) -> Response:
        """List model calls of all invocations, newest first."""
        names = ("model", "service", "limit", "after")
        known = known_fields(request.query, names)
        limit = whole_number(last_of(known, "limit"), "limit", 1, LIMIT_MAX, LIMIT_DEFAULT)
        after = last_of(known, "after")
        conditions = [Condition("kind", Comparison.IN, ("model",))]
        for field, column in (("model", "name"), ("service", "service")):
            values = tuple(value for value in known.get(field, ()) if value)
            if values:
                conditions.append(Condition(column, Comparison.IN, values))
        place = None if after is None else _parse_place(after)
        # One more than asked for tells whether there is a next page.
        found = await self._handle.details.recent(conditions, place, limit + 1)
        page = found[:limit]
        following = _print_place(page[-1]) if len(found) > limit else None
        return json_response(
            {"model_calls": [view_model_call(each) for each in page], "next": following}
        )

    async def calls(self, request: Request) -> Response:
        """List the model calls of an invocation, in the order of its steps, and add them up."""
        known_fields(request.query, ())
        row = await self._invocation(request.params[0])
        found = await self._model_calls(row)
        return json_response(
            {
                "id": row.id,
                "totals": view_totals(found),
                "model_calls": [view_model_call(each) for each in found],
            }
        )

    async def call(self, request: Request) -> Response:
        """Show a model call with its prompt and its answer: the last try, or that of an attempt."""
        known = known_fields(request.query, ("attempt",))
        row = await self._invocation(request.params[0])
        number = whole_number(request.params[1], "completion_id", 0, _NUMBER_MAX, 0)
        attempt = whole_number(last_of(known, "attempt"), "attempt", 0, _NUMBER_MAX, 0)
        found = [
            each
            for each in await self._model_calls(row)
            if each.completion_id == number and attempt in (0, each.attempt)
        ]
        if not found:
            raise Refusal(
                404,
                "HF0615",
                f"Step {number} of {row.id} has left no model call"
                + (f" in attempt {attempt}." if attempt else "."),
                hint=f"GET /holdfast/v1/invocations/{row.id}/model-calls lists those there are.",
            )
        (content,) = await self._handle.details.contents(found[-1:])
        return json_response(view_prompt(found[-1], content))

    async def _model_calls(self, row: InvocationRow) -> list[StoredDetail]:
        if not row.detail_count:
            return []
        found = await self._handle.details.of(row.id)
        return [each for each in found if isinstance(each.row.call, ModelCall)]

    async def _invocation(self, text: str) -> InvocationRow:
        invocation_id = checked_invocation_id(text)
        row = await self._handle.invocation(invocation_id)
        if row is None:
            raise unknown_invocation(invocation_id)
        return row


def _print_place(detail: StoredDetail) -> str:
    place = place_of(detail)
    return f"{place.at_ms}.{place.completion_id}.{place.attempt}.{place.invocation_id}"


def _parse_place(text: str) -> DetailPlace:
    *numbers, invocation_id = text.split(".", 3)
    if len(numbers) < 3 or not all(n.isascii() and n.isdigit() and len(n) < 19 for n in numbers):
        raise Refusal(
            400,
            "HF1060",
            f"after is {shown(text)}; expected the `next` of an earlier answer.",
            hint="Leave it out to begin with the newest.",
        )
    at_ms, completion_id, attempt = map(int, numbers)
    return DetailPlace(at_ms, invocation_id, completion_id, attempt)
