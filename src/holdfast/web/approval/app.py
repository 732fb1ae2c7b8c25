"""Approvals as an ASGI application, to be mounted at `ROUTE` by both front doors.

    GET  …                       the inbox                    on the admin API only
    GET  …/{id}                  one approval, JSON or a page
    POST …/{id}/approve|reject   the decision

On the admin API whoever can ask may decide. On the ingress a signed link is needed: the id of an
approval is no secret, and whoever began a run must not approve what it asks for.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import msgspec

from holdfast.domain.approval_link import ROUTE, LinkError
from holdfast.domain.errors import ConflictError, HoldfastError, UsageError
from holdfast.server.approval_port import Approval, Approvals, Verdict
from holdfast.web.approval.field import Field, read_fields
from holdfast.web.approval.page import approval_fields, approval_page, problem_page
from holdfast.web.approval.request import (
    checked_approval_id,
    parse_decision,
    parse_fields,
    parse_page,
    print_cursor,
)
from holdfast.web.approval.view import view_approval, view_stored
from holdfast.web.asgi import (
    JSON_HEADER,
    ASGIApp,
    Receive,
    Response,
    Scope,
    Send,
    refuse_websocket,
    send_head,
    send_response,
)
from holdfast.web.body import read_body
from holdfast.web.problem import (
    Refusal,
    error_headers,
    method_refusal,
    shown,
    status_of,
    unexpected_error,
)

_logger = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode
_BODY_SIZE_BYTES_MAX = 2 * 1024 * 1024
_VERBS = ("approve", "reject")


def create_approval_app(approvals: Approvals, *, needs_link: bool) -> ASGIApp:
    """Make the application.

    Args:
        approvals: Of the server.
        needs_link: Whether a signed link is needed; then there is no inbox.
    """
    return _App(approvals, needs_link)


class _Asked(NamedTuple):
    """A request about one approval, by somebody who may ask."""

    approval_id: str
    token: str
    assignee: str | None
    """Who decides by the link; None: there is no link."""
    is_page: bool
    """Whether a person reads the answer."""
    is_form: bool
    """Whether a browser has sent the body."""


class _App:
    """The application."""

    def __init__(self, approvals: Approvals, needs_link: bool) -> None:
        self._approvals = approvals
        self._needs_link = needs_link

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name: value for name, value in scope["headers"]}
        is_page = b"text/html" in headers.get(b"accept", b"")
        try:
            response = await self._respond(scope, receive, headers, is_page=is_page)
        except HoldfastError as error:
            response = _problem(error, is_page=is_page)
        except Exception:
            # The last place where anyone sees it: the client gets no detail.
            _logger.exception("request failed", extra={"http_path": scope["path"]})
            response = _problem(unexpected_error(), is_page=is_page)
        # What is shown is other people's data: never guess at its type, never keep it.
        response.headers.extend(
            ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
        )
        if scope["type"] == "websocket":
            await refuse_websocket(scope, send, response)
        elif scope["method"] == "HEAD":
            await send_head(send, response)
        else:
            await send_response(send, response)

    async def _respond(
        self, scope: Scope, receive: Receive, headers: dict[bytes, bytes], *, is_page: bool
    ) -> Response:
        if scope["type"] == "websocket":
            raise Refusal(404, "HF1005", "No WebSocket is served here.", hint="Use HTTP.")
        method: str = scope["method"]
        path: str = scope["path"]
        segments = path.removeprefix(ROUTE).strip("/").split("/")
        query: bytes = scope.get("query_string", b"")
        match segments:
            case [""]:
                _need(method, "GET", "HEAD")
                return await self._list(query)
            case [approval_id]:
                _need(method, "GET", "HEAD")
                return await self._show(self._admit(approval_id, query, headers, is_page=is_page))
            case [approval_id, verb] if verb in _VERBS:
                _need(method, "POST")
                if headers.get(b"sec-fetch-site") == b"cross-site":
                    raise Refusal(
                        403,
                        "HF1009",
                        "A web page of another site may not decide (Sec-Fetch-Site: cross-site).",
                        hint="Open the link itself.",
                    )
                asked = self._admit(approval_id, query, headers, is_page=is_page)
                body = await read_body(receive, _BODY_SIZE_BYTES_MAX)
                return await self._decide(asked, verb == "approve", body)
            case _:
                raise Refusal(
                    404,
                    "HF1005",
                    f"Path {shown(path)} has no meaning here.",
                    hint=f"Use {ROUTE}/{{id}}, with /approve or /reject to decide.",
                )

    def _admit(
        self, approval_id: str, query: bytes, headers: dict[bytes, bytes], *, is_page: bool
    ) -> _Asked:
        """Let in who has a good link, or who needs none."""
        approval_id = checked_approval_id(approval_id)
        token = next((value for name, value in parse_fields(query) if name == "token"), "")
        assignee: str | None = None
        if token:
            try:
                assignee = self._approvals.assignee_of(approval_id, token)
            except LinkError as error:
                raise _bad_link(error) from error
        elif self._needs_link:
            raise Refusal(
                401,
                "HF1417",
                "Approvals are decided here by signed links, and this address has no token.",
                hint="Use the whole link; or decide on the admin API, with holdfast approvals.",
            )
        content_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        is_form = content_type == b"application/x-www-form-urlencoded"
        return _Asked(approval_id, token, assignee, is_page, is_form)

    async def _list(self, query: bytes) -> Response:
        if self._needs_link:
            raise Refusal(
                401,
                "HF1417",
                "The inbox is not served here.",
                hint="Ask the admin API, which is on another port, or holdfast approvals ls.",
            )
        page = parse_page(query)
        # One more than asked for tells whether there is a next page.
        found = await self._approvals.find(page.query, page.before, page.limit + 1)
        listed = found[: page.limit]
        following = print_cursor(listed[-1]) if len(found) > page.limit else None
        return _json({"approvals": [view_stored(each) for each in listed], "next": following})

    async def _show(self, asked: _Asked) -> Response:
        approval = await self._approvals.get(asked.approval_id)
        if asked.is_page:
            return approval_page(approval, asked.token, asked.assignee or "")
        return _json(view_approval(approval))

    async def _decide(self, asked: _Asked, is_approved: bool, body: bytes) -> Response:
        by = asked.assignee or None
        if not asked.is_form:
            verdict = parse_decision(body, is_approved=is_approved, by=by)
            return _json(view_approval(await self._approvals.decide(asked.approval_id, verdict)))
        approval = await self._approvals.get(asked.approval_id)
        sent = dict(parse_fields(body))
        try:
            verdict = _verdict_of(approval, sent, is_approved, by)
            await self._approvals.decide(asked.approval_id, verdict)
        except (ConflictError, UsageError, ValueError) as error:
            problem = error.message if isinstance(error, HoldfastError) else str(error)
            status = status_of(error) if isinstance(error, HoldfastError) else 400
            after = await self._approvals.get(asked.approval_id)
            return approval_page(
                after, asked.token, by or "", sent=sent, problem=problem, status=status
            )
        # Loading the page again must not send the decision again.
        query = f"?token={asked.token}" if asked.token else ""
        location = f"{ROUTE}/{asked.approval_id}{query}".encode()
        return Response(303, [(b"location", location), (b"referrer-policy", b"no-referrer")], b"")


def _verdict_of(
    approval: Approval, sent: dict[str, str], is_approved: bool, by: str | None
) -> Verdict:
    """Return what a page says.

    Raises:
        ValueError: A field that is JSON is none.
    """
    form, arguments = approval_fields(approval)
    return Verdict(
        is_approved,
        # Whoever rejects need not fill in anything, and a browser sends empty fields.
        _filled(form, sent) if is_approved else None,
        _filled(arguments, sent) if is_approved else None,
        sent.get("by", "").strip() if by is None else by,
        sent.get("comment", "").replace("\r\n", "\n").strip(),
    )


def _filled(fields: list[Field], sent: dict[str, str]) -> bytes | None:
    return _encode(read_fields(fields, sent)) if fields else None


def _bad_link(error: LinkError) -> Refusal:
    if error.is_expired:
        return Refusal(
            410,
            "HF1414",
            "This link has expired: the time to decide is over.",
            hint="Ask whoever sent it for another way.",
        )
    return Refusal(
        403,
        "HF1413",
        f"This link opens nothing: {error}.",
        hint="Copy the whole link. After a change of HOLDFAST_APPROVAL_SECRET old links are void.",
    )


def _problem(error: HoldfastError, *, is_page: bool) -> Response:
    status = status_of(error)
    if is_page:
        return problem_page(f"{error.message} [{error.code}]", error.hint, status)
    body = {
        "code": status,
        "message": error.message,
        "error_code": error.code,
        "hint": error.hint,
    }
    return Response(status, error_headers(error, status), _encode(body))


def _json(value: object) -> Response:
    return Response(200, [JSON_HEADER], _encode(value))


def _need(method: str, *allowed: str) -> None:
    if method not in allowed:
        raise method_refusal(method, ", ".join(allowed))
