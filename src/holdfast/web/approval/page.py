"""The page on which a person decides: HTML without script, for a phone too.

All that it shows is other people's text, so everything goes through `_text`, and the policy that is
sent with it lets nothing run and nothing be fetched.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from typing import Any

import msgspec

from holdfast.domain.approval import ApprovalStatus
from holdfast.domain.approval_link import ROUTE
from holdfast.server.approval_port import Approval
from holdfast.web.approval.field import Field, fields_of
from holdfast.web.approval.view import STATUS_NAMES
from holdfast.web.asgi import Headers, Response
from holdfast.web.instant import iso_time

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:0 auto;padding:1rem;"
    "color:#1a1a1a;background:#fff}"
    "h1{font-size:1.4rem}pre{overflow:auto;background:#f3f3f3;padding:.75rem;white-space:pre-wrap;"
    "overflow-wrap:anywhere}"
    "label{display:block;margin:1rem 0 .25rem;font-weight:600}"
    "input:not([type=checkbox]),select,textarea{width:100%;box-sizing:border-box;font:inherit;"
    "padding:.5rem}"
    "textarea{min-height:5rem}small{display:block;color:#555}"
    "button{font:inherit;font-weight:600;padding:.75rem 1.5rem;margin:1.25rem .75rem 0 0;border:0;"
    "border-radius:.4rem;color:#fff;background:#0a6b2d}button.no{background:#a01c1c}"
    ".bad{border-left:.3rem solid #a01c1c;padding-left:.75rem}"
    "dt{font-weight:600;float:left;clear:left;width:7rem}dd{margin:0 0 .25rem 7.5rem;"
    "overflow-wrap:anywhere}"
)
_STYLE_HASH = b64encode(sha256(_STYLE.encode()).digest()).decode()
_HEADERS: Headers = [
    (b"content-type", b"text/html; charset=utf-8"),
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'sha256-" + _STYLE_HASH.encode() + b"'; "
        b"form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    # The address is as good as a key: it goes nowhere else, and stays nowhere.
    (b"referrer-policy", b"no-referrer"),
]
_WHAT_THEN = {
    "reject": "it counts as rejected",
    "approve": "it counts as approved",
    "fail": "the run gets an error",
}
VALUE_GROUP = "value"
ARGUMENTS_GROUP = "arguments"


def approval_fields(approval: Approval) -> tuple[list[Field], list[Field]]:
    """Return the fields of an approval's form, and those of arguments that may be changed."""
    asked = approval.asked
    if asked is None:
        return [], []
    form = _decoded(asked.form)
    schema = _decoded(asked.arguments_schema)
    return (
        [] if form is None else fields_of(form, VALUE_GROUP, {}),
        []
        if schema is None
        else fields_of(schema, ARGUMENTS_GROUP, _decoded(asked.arguments) or {}),
    )


def approval_page(
    approval: Approval,
    token: str,
    assignee: str,
    *,
    sent: Mapping[str, str] | None = None,
    problem: str = "",
    status: int = 200,
) -> Response:
    """Return the page of an approval.

    Args:
        approval: What is asked.
        token: Of the link; empty where none is needed.
        assignee: Who decides by it; empty: the page asks.
        sent: What was filled in before, if that was refused.
        problem: Why it was.
        status: HTTP status.
    """
    row = approval.row
    parts = [f"<h1>{_text(row.title)}</h1>"]
    if problem:
        parts.append(f'<p class="bad" role="alert">{_text(problem)}</p>')
    parts.append(_facts(approval))
    parts += _contents(approval)
    if row.status is ApprovalStatus.OPEN:
        parts.append(_form(approval, token, assignee, sent))
    return _page(row.title, parts, status)


def problem_page(problem: str, hint: str, status: int) -> Response:
    """Return a page that says why there is nothing to decide."""
    parts = [f'<h1>Not possible</h1><p class="bad" role="alert">{_text(problem)}</p>']
    return _page("Not possible", [*parts, f"<p>{_text(hint)}</p>"], status)


def _page(title: str, parts: list[str], status: int) -> Response:
    body = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>"
    )
    return Response(status, list(_HEADERS), body.encode())


def _facts(approval: Approval) -> str:
    row, asked = approval.row, approval.asked
    facts = [("Status", STATUS_NAMES[row.status])]
    if asked is not None and asked.why:
        facts.append(("Why", asked.why))
    facts += [("Asked by", str(row.target)), ("Asked at", iso_time(row.asked_at_ms))]
    if row.assignees:
        facts.append(("Assigned to", ", ".join(row.assignees)))
    if row.status is not ApprovalStatus.OPEN:
        facts.append(("Decided at", iso_time(row.decided_at_ms)))
        facts += [(name, text) for name, text in (("By", row.by), ("Comment", row.comment)) if text]
    elif row.expires_at_ms:
        facts.append(("Until", f"{iso_time(row.expires_at_ms)}; then {_WHAT_THEN[row.on_timeout]}"))
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{_text(text)}</dd>' for name, text in facts)}</dl>"


def _contents(approval: Approval) -> list[str]:
    asked = approval.asked
    if asked is None:
        return []
    shown = (("Details", asked.payload), ("Arguments", asked.arguments))
    return [
        f"<h2>{name}</h2><pre>{_text(_pretty(content))}</pre>" for name, content in shown if content
    ]


def _form(approval: Approval, token: str, assignee: str, sent: Mapping[str, str] | None) -> str:
    form, arguments = approval_fields(approval)
    parts = [_input(field, sent) for field in form]
    if arguments:
        parts.append("<h2>Change before it is approved</h2>")
        parts += [_input(field, sent) for field in arguments]
    parts.append(_input(Field("comment", "", "Comment", "area", ""), sent))
    if not assignee:
        parts.append(_input(Field("by", "", "Your name", "text", ""), sent))
    query = f"?token={token}" if token else ""
    base = f"{ROUTE}/{approval.id}"
    # Rejecting must be possible with an empty form.
    buttons = (
        f'<button formaction="{_text(f"{base}/approve{query}")}">Approve</button>'
        f'<button class="no" formnovalidate formaction="{_text(f"{base}/reject{query}")}">'
        "Reject</button>"
    )
    return f'<form method="post">{"".join(parts)}{buttons}</form>'


def _input(field: Field, sent: Mapping[str, str] | None) -> str:
    name, text = _text(field.name), field.text if sent is None else sent.get(field.name, "")
    mark = ' required aria-required="true"' if field.is_required else ""
    head = f'<label for="{name}">{_text(field.label or "Value")}</label>'
    if field.description:
        head += f"<small>{_text(field.description)}</small>"
    common = f'id="{name}" name="{name}"{mark}'
    match field.kind:
        case "flag":
            return f'{head}<input type="checkbox" {common}{" checked" if text else ""}>'
        case "choice":
            options = "".join(
                f'<option value="{_text(choice)}"{" selected" if choice == text else ""}>'
                f"{_text(str(json.loads(choice)))}</option>"
                for choice in field.choices
            )
            return f'{head}<select {common}><option value=""></option>{options}</select>'
        case "area" | "json":
            hint = "<small>JSON</small>" if field.kind == "json" else ""
            return f"{head}{hint}<textarea {common}>\n{_text(text)}</textarea>"
        case "number":
            return f'{head}<input type="number" step="any" {common} value="{_text(text)}">'
        case kind:
            return f'{head}<input type="{kind}" {common} value="{_text(text)}">'


def _decoded(content: bytes) -> Any:
    return msgspec.json.decode(content) if content else None


def _pretty(content: bytes) -> str:
    return msgspec.json.format(content, indent=2).decode()


def _text(text: str) -> str:
    return escape(text, quote=True)
