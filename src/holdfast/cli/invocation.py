"""`holdfast invocations`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast
from urllib.parse import quote, urlencode

import click

from holdfast.cli.client import JsonObject, Server
from holdfast.cli.operation import COMMANDS
from holdfast.cli.option import admin_url, as_json, token
from holdfast.cli.output import (
    clean,
    moment,
    note,
    print_facts,
    print_json,
    print_table,
    span,
    styled_status,
)
from holdfast.cli.prompt import prompts, spent
from holdfast.cli.tail import tail

_PAGE_SIZE_MAX = 1000
_DETAIL_LENGTH_MAX = 70
_COMMON_MEMBERS = frozenset(
    ("index", "kind", "at", "name", "key", "site", "completed", "payload", "failure")
)


@click.group()
def invocations() -> None:
    """List, show and steer invocations. Short: inv."""


@invocations.command("ls")
@click.option("--service", metavar="NAME", help="Only of this service.")
@click.option("--handler", metavar="NAME", help="Only of this handler.")
@click.option("--key", metavar="KEY", help="Only of this object or workflow key.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    metavar="STATUS",
    help="Only in this status: scheduled, pending, running, suspended, backing-off, paused or"
    " completed. May be given several times.",
)
@click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most."
)
@admin_url
@token
@as_json
def ls(
    service: str | None,
    handler: str | None,
    key: str | None,
    statuses: Sequence[str],
    limit: int,
    admin: str,
    token: str | None,
    is_json: bool,
) -> None:
    """List invocations, newest first.

    \b
      holdfast inv ls --service ClaimAgent --status suspended
    """
    wanted = {"service": service, "handler": handler, "key": key, "status": ",".join(statuses)}
    query = {name: value for name, value in wanted.items() if value}
    server = Server(admin, "--admin", token)
    found: list[JsonObject] = []
    following: object = None
    while len(found) < limit:
        page_query = {**query, "limit": str(min(limit - len(found), _PAGE_SIZE_MAX))}
        if following:
            page_query["before"] = str(following)
        page = server.get(f"/holdfast/v1/invocations?{urlencode(page_query)}").json()
        found += cast("list[JsonObject]", page["invocations"])
        following = page.get("next")
        if not following:
            break
    if is_json:
        print_json({"invocations": found, "next": following})
        return
    rows = [
        (
            styled_status(_status_of(each)),
            clean(each["id"]),
            clean(each["target"]),
            moment(each["created_at"]),
            _duration_of(each),
            str(each["attempt"]),
            str(each["journal_length"]),
        )
        for each in found
    ]
    heads = ("STATUS", "ID", "TARGET", "CREATED", "TOOK", "ATTEMPTS", "ENTRIES")
    print_table(heads, rows)
    if not rows:
        note("No invocations. Make one with: holdfast call SERVICE/HANDLER JSON")
    elif following:
        note(f"There are more than {limit}: see them with --limit.")


@invocations.command()
@click.argument("invocation_id", metavar="ID")
@admin_url
@token
@as_json
def get(invocation_id: str, admin: str, token: str | None, is_json: bool) -> None:
    """Show one invocation.

    \b
      holdfast inv get inv_1...
    """
    server = Server(admin, "--admin", token)
    found = server.get(_path(invocation_id)).json()
    if is_json:
        print_json({"invocation": found})
        return
    reason = why(found)
    if _status_of(found) == "failed":
        entries = server.get(_path(invocation_id) + "/journal?payload_size_max=0").json()["entries"]
        reason = _failure_in(cast("list[JsonObject]", entries))
    facts = [
        ("id", clean(found["id"])),
        ("target", clean(found["target"])),
        ("status", styled_status(_status_of(found))),
        ("why", clean(reason)),
        ("created", moment(found["created_at"])),
        ("completed", moment(found["completed_at"])),
        ("took", _duration_of(found)),
        ("attempts", str(found["attempt"])),
        ("entries", str(found["journal_length"])),
        ("model calls", spent(found)),
        ("deployment", clean(found["deployment_id"] or "")),
        ("idempotency key", clean(found["idempotency_key"] or "")),
        *((name, clean(value)) for name, value in _origin_of(found)),
    ]
    print_facts([(name, value) for name, value in facts if value])


@invocations.command()
@click.argument("invocation_id", metavar="ID")
@admin_url
@token
@as_json
def journal(invocation_id: str, admin: str, token: str | None, is_json: bool) -> None:
    """Show the journal of an invocation: all that it did, in order.

    \b
      holdfast inv journal inv_1...
    """
    found = Server(admin, "--admin", token).get(_path(invocation_id) + "/journal").json()
    if is_json:
        print_json(found)
        return
    print_journal(cast("list[JsonObject]", found["entries"]))


@invocations.command()
@click.argument("invocation_id", metavar="ID")
@admin_url
@token
def export(invocation_id: str, admin: str, token: str | None) -> None:
    """Print all that a replay of an invocation needs, as JSON: see holdfast replay-check.

    \b
      holdfast inv export inv_1... > run.json
    """
    answer = Server(admin, "--admin", token).get(_path(invocation_id) + "/export")
    click.echo(answer.body)


for command in (tail, *COMMANDS, prompts):
    invocations.add_command(command)


def print_journal(entries: Sequence[JsonObject]) -> None:
    """Print the entries of a journal as a table."""
    rows = [
        (
            str(entry["index"]),
            moment(entry.get("at")),
            clean(entry["kind"]),
            clean(entry.get("name") or ""),
            _detail_of(entry),
        )
        for entry in entries
    ]
    print_table(("#", "AT", "KIND", "NAME", "DETAIL"), rows)


def why(invocation: JsonObject) -> str:
    """Return one sentence about what an invocation waits for, or how it ended; may be empty."""
    failure = invocation.get("last_failure")
    said = ""
    if isinstance(failure, dict):
        fields = cast("JsonObject", failure)
        said = f"{fields.get('message')} (code {fields.get('code')})"
    waiting = cast("JsonObject", invocation.get("waiting") or {})
    match invocation.get("status"):
        case "scheduled":
            return f"starts {moment(invocation.get('execute_at'))}"
        case "pending":
            return "waits for its turn: another invocation has the key"
        case "suspended":
            if not waiting:
                return "waits for many results"
            completions = cast("list[object]", waiting.get("completions") or [])
            count = sum(len(cast("list[object]", each)) for each in waiting.values())
            kind = "results" if len(completions) == count else "signals"
            return f"waits for {count} {kind}"
        case "backing-off":
            return f"tries again {moment(invocation.get('retry_at'))}, after: {said}"
        case "paused":
            return f"waits for a person, after: {said}" if said else "paused by a person"
        case _:
            return ""


def _path(invocation_id: str) -> str:
    return f"/holdfast/v1/invocations/{quote(invocation_id, safe='')}"


def _status_of(invocation: JsonObject) -> str:
    if invocation["status"] == "completed":
        return "failed" if invocation.get("has_failed") else "succeeded"
    return str(invocation["status"])


def _duration_of(invocation: JsonObject) -> str:
    """Return how long an invocation took, or has lived so far."""
    start, end = invocation.get("created_at"), invocation.get("completed_at")
    try:
        begun = datetime.fromisoformat(str(start))
        ended = datetime.fromisoformat(str(end)) if end else datetime.now(UTC)
    except ValueError:
        return ""
    return span((ended - begun).total_seconds())


def _failure_in(entries: Sequence[JsonObject]) -> str:
    """Return what the last output of a journal says, which is the one that counts."""
    outputs = [each for each in entries if each["kind"] == "Command: Output"]
    failure = cast("JsonObject", (outputs[-1].get("failure") if outputs else None) or {})
    return f"{failure.get('message')} (code {failure.get('code')})" if failure else ""


def _origin_of(invocation: JsonObject) -> list[tuple[str, str]]:
    """Return facts about the invocation that has made this one, if one has."""
    origin = cast("JsonObject", invocation.get("origin") or {})
    other = origin.get("invocation_id")
    if not other:
        return []
    if origin.get("kind") != "restart":
        return [("called by", f"{other} ({origin.get('target')})")]
    restarted = invocation.get("restarted")
    if not isinstance(restarted, dict):
        return [("restart of", str(other))]
    index = cast("JsonObject", restarted).get("from_index")
    return [("restart of", f"{other}, from entry {index}")]


def _detail_of(entry: JsonObject) -> str:
    """Return the telling part of an entry: its failure, its payload, or what is special to it."""
    failure, payload = entry.get("failure"), entry.get("payload")
    if isinstance(failure, dict):
        return click.style(_cut(cast("JsonObject", failure).get("message")), fg="red")
    if isinstance(payload, dict):
        return _cut(cast("JsonObject", payload).get("value"))
    special = {
        name: value
        for name, value in entry.items()
        if name not in _COMMON_MEMBERS and value not in (None, "", [], ())
    }
    return _cut(", ".join(f"{name} {clean(value)}" for name, value in special.items()))


def _cut(value: object) -> str:
    text = clean(value)
    return text if len(text) <= _DETAIL_LENGTH_MAX else text[: _DETAIL_LENGTH_MAX - 1] + "…"
