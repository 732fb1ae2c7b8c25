"""`holdfast approvals`."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlencode

import click

from holdfast.cli.call import read_body
from holdfast.cli.client import JsonObject, Server
from holdfast.cli.option import admin_url, as_json, token
from holdfast.cli.output import clean, moment, note, print_facts, print_json, print_table

C = TypeVar("C", bound=Callable[..., Any])

_ROUTE = "/holdfast/v1/approvals"
_JSON = "application/json"
_PAGE_SIZE_MAX = 1000
_COLORS = {
    "open": "yellow",
    "approved": "green",
    "rejected": "red",
    "expired": "magenta",
    "withdrawn": "blue",
}


@click.group()
def approvals() -> None:
    """List, show and decide approvals: what agents ask people."""


@approvals.command("ls")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    metavar="STATUS",
    help="Only in this status: open, approved, rejected, expired or withdrawn; decided for approved"
    " and rejected, closed for all but open. May be given several times. Without: open.",
)
@click.option("--assignee", metavar="NAME", help="Only those that this one may decide.")
@click.option("--service", metavar="NAME", help="Only of this service.")
@click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most."
)
@admin_url
@token
@as_json
def ls(
    statuses: Sequence[str],
    assignee: str | None,
    service: str | None,
    limit: int,
    admin: str,
    token: str | None,
    is_json: bool,
) -> None:
    """List approvals, newest first: those that wait, or others.

    \b
      holdfast approvals ls
      holdfast approvals ls --status closed --assignee finance
    """
    wanted = {
        "status": ",".join(statuses or ["open"]),
        "assignee": assignee,
        "service": service,
    }
    query = {name: value for name, value in wanted.items() if value}
    server = Server(admin, "--admin", token)
    found: list[JsonObject] = []
    following: object = None
    while len(found) < limit:
        page_query = {**query, "limit": str(min(limit - len(found), _PAGE_SIZE_MAX))}
        if following:
            page_query["before"] = str(following)
        page = server.get(f"{_ROUTE}?{urlencode(page_query)}").json()
        found += cast("list[JsonObject]", page["approvals"])
        following = page.get("next")
        if not following:
            break
    if is_json:
        print_json({"approvals": found, "next": following})
        return
    rows = [
        (
            _styled(each["status"]),
            clean(each["id"]),
            clean(each["title"]),
            clean(", ".join(cast("list[str]", each["assignees"]))),
            moment(each["asked_at"]),
            moment(each["expires_at"]),
            clean(_target_of(each)),
        )
        for each in found
    ]
    print_table(("STATUS", "ID", "TITLE", "ASSIGNED TO", "ASKED", "UNTIL", "ASKED BY"), rows)
    if not rows:
        note("Nothing waits for a decision." if not statuses else "No approvals.")
    elif following:
        note(f"There are more than {limit}: see them with --limit.")


@approvals.command("get")
@click.argument("approval_id", metavar="ID")
@admin_url
@token
@as_json
def get(approval_id: str, admin: str, token: str | None, is_json: bool) -> None:
    """Show one approval: what is asked, what is to be filled in, and how it was decided.

    \b
      holdfast approvals get sign_1...
    """
    found = Server(admin, "--admin", token).get(_path(approval_id)).json()
    if is_json:
        print_json({"approval": found})
        return
    facts = [
        ("id", clean(found["id"])),
        ("title", clean(found["title"])),
        ("status", _styled(found["status"])),
        ("why", clean(found["why"])),
        ("assigned to", clean(", ".join(cast("list[str]", found["assignees"])))),
        ("asked", moment(found["asked_at"])),
        ("until", moment(found["expires_at"])),
        ("then", clean(found["on_timeout"]) if found["expires_at"] else ""),
        ("asked by", clean(_target_of(found))),
        ("invocation", clean(found["invocation_id"])),
        *(
            (name.replace("_", " "), clean(found[name]))
            for name in ("payload", "form", "arguments", "arguments_schema")
            if found[name] is not None
        ),
        ("decided", moment(found["decided_at"])),
        ("by", clean(found["by"])),
        ("comment", clean(found["comment"])),
        *(
            (name.replace("_", " "), clean(found[name]))
            for name in ("value", "changed_arguments")
            if found.get(name) is not None
        ),
    ]
    print_facts([(name, value) for name, value in facts if value])


def _decision_options(command: C) -> C:
    for option in reversed(
        (
            click.option("--comment", metavar="TEXT", help="Why; the handler gets it."),
            click.option("--by", metavar="NAME", help="Who decides. Without: your login name."),
            admin_url,
            token,
            as_json,
        )
    ):
        command = option(command)
    return command


@approvals.command(
    epilog="JSON is the value itself, @FILE to read it from a file, or - for standard input."
)
@click.argument("approval_id", metavar="ID")
@click.option("--value", metavar="JSON", help="Fills in the form.")
@click.option("--arguments", metavar="JSON", help="Object of arguments that are changed.")
@_decision_options
def approve(
    approval_id: str,
    value: str | None,
    arguments: str | None,
    comment: str | None,
    by: str | None,
    admin: str,
    token: str | None,
    is_json: bool,
) -> None:
    """Approve what an agent asks for.

    \b
      holdfast approvals approve sign_1... --comment 'looks right'
      holdfast approvals approve sign_1... --value '{"amount": 90}'
    """
    parts = {"value": read_body(value, _JSON), "arguments": read_body(arguments, _JSON)}
    body = {name: json.loads(part) for name, part in parts.items() if part is not None}
    _decide(Server(admin, "--admin", token), approval_id, "approve", body, comment, by, is_json)


@approvals.command()
@click.argument("approval_id", metavar="ID")
@_decision_options
def reject(
    approval_id: str,
    comment: str | None,
    by: str | None,
    admin: str,
    token: str | None,
    is_json: bool,
) -> None:
    """Reject what an agent asks for.

    \b
      holdfast approvals reject sign_1... --comment 'no budget'
    """
    _decide(Server(admin, "--admin", token), approval_id, "reject", {}, comment, by, is_json)


def _decide(
    server: Server,
    approval_id: str,
    verb: str,
    body: JsonObject,
    comment: str | None,
    by: str | None,
    is_json: bool,
) -> None:
    body["by"] = _login_name() if by is None else by
    if comment is not None:
        body["comment"] = comment
    content = json.dumps(body).encode()
    headers = {"content-type": _JSON}
    path = f"{_path(approval_id)}/{verb}"
    found = server.ask("POST", path, body=content, headers=headers).json()
    if is_json:
        print_json({"approval": found})
    else:
        note(f"{clean(found['status']).capitalize()}: {clean(found['title'])}")


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # A user without a name, as in containers.
        return ""


def _path(approval_id: str) -> str:
    return f"{_ROUTE}/{quote(approval_id, safe='')}"


def _target_of(found: JsonObject) -> str:
    parts = (found["service"], found["key"], found["handler"])
    return "/".join(str(part) for part in parts if part is not None)


def _styled(status: object) -> str:
    return click.style(clean(status), fg=_COLORS.get(str(status)))
