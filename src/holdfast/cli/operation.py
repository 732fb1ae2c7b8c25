"""`holdfast invocations cancel`, `kill`, `pause`, `resume`, `retry`, `restart`, `purge`.

Each takes ids, or a filter. What a filter finds is asked for first, shown, and confirmed; then it
is done to exactly these.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlencode

import click

from holdfast.cli.client import JsonObject, Server
from holdfast.cli.option import admin_url, as_json, token
from holdfast.cli.output import clean, note, print_json, styled_status
from holdfast.cli.problem import CommandError, ExitCode, usage_error
from holdfast.domain.errors import HoldfastError

C = TypeVar("C", bound=Callable[..., Any])

_PAGE_SIZE_MAX = 1000
_SAMPLE_COUNT = 5


@dataclass(frozen=True)
class _Deed:
    """What to do, and how the server is asked."""

    name: str
    """As the person has said it."""
    verb: str
    """As in paths of the server."""
    result: str = ""
    """What 202 without a body means."""
    result_at_once: str = ""
    """What 200 without a body means."""
    statuses: tuple[str, ...] = ()
    """Which a filter means that names no status; empty: the server knows."""
    query: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class _Selection:
    """Which invocations are meant, and how to go about it."""

    invocation_ids: tuple[str, ...]
    service: str | None
    handler: str | None
    key: str | None
    statuses: tuple[str, ...]
    older_than: str | None
    newer_than: str | None
    is_all: bool
    is_dry_run: bool
    is_sure: bool
    is_json: bool
    server: Server

    def filter(self) -> JsonObject:
        """Return the filter as the server takes it; empty when there is none."""
        members: JsonObject = {
            "service": self.service,
            "handler": self.handler,
            "key": self.key,
            "status": list(self.statuses) or None,
            "created_before": _ago("--older-than", self.older_than),
            "created_after": _ago("--newer-than", self.newer_than),
            "all": self.is_all or None,
        }
        return {name: value for name, value in members.items() if value is not None}


def _selecting(command: C) -> C:
    """Add what says which invocations are meant, as the keyword arguments of a `_Selection`."""
    for option in reversed(
        (
            click.argument("invocation_ids", metavar="[ID]...", nargs=-1),
            click.option("--service", metavar="NAME", help="All of this service."),
            click.option("--handler", metavar="NAME", help="All of this handler."),
            click.option("--key", metavar="KEY", help="All of this object or workflow key."),
            click.option(
                "--status",
                "statuses",
                multiple=True,
                metavar="STATUS",
                help="All in this status. May be given several times.",
            ),
            click.option("--older-than", metavar="DURATION", help="Made before that: 7d, 12h, 5m."),
            click.option("--newer-than", metavar="DURATION", help="Made after that."),
            click.option("--all", "is_all", is_flag=True, help="All that it can be done to."),
            click.option(
                "--dry-run", "is_dry_run", is_flag=True, help="Only show what would be done."
            ),
            click.option("--yes", "-y", "is_sure", is_flag=True, help="Do not ask."),
            admin_url,
            token,
            as_json,
        )
    ):
        command = option(command)
    return command


def _selection(admin: str, token: str | None, **options: Any) -> _Selection:
    return _Selection(server=Server(admin, "--admin", token), **options)


@click.command()
@_selecting
def cancel(**options: Any) -> None:
    """Ask invocations to stop: their handlers can still clean up.

    \b
      holdfast inv cancel inv_1...
      holdfast inv cancel --service Mailer --older-than 7d
    """
    _run(_Deed("cancel", "cancel", "cancelling", "cancelled"), _selection(**options))


@click.command()
@_selecting
def kill(**options: Any) -> None:
    """End invocations, and all that they called, at once and without cleaning up.

    \b
      holdfast inv kill inv_1...
    """
    _run(_Deed("kill", "kill", "killed", "killed"), _selection(**options))


@click.command()
@_selecting
def pause(**options: Any) -> None:
    """Stop invocations where they are, until they are resumed.

    The running attempt is ended: what it has recorded is kept, a step that is not done begins again
    later. What arrives meanwhile is kept, too.

    \b
      holdfast inv pause inv_1...
      holdfast inv pause --service ClaimAgent
    """
    _run(_Deed("pause", "pause"), _selection(**options))


_deployment = click.option(
    "--deployment",
    metavar="ID",
    help="Run it there from now on: an id, latest, or keep for the one it is on.",
)


@click.command()
@_deployment
@_selecting
def resume(deployment: str | None, **options: Any) -> None:
    """Go on with paused invocations, with fresh retry counters.

    A filter means those that are paused or backing off. One that is suspended can be named; it
    usually suspends again.

    \b
      holdfast inv resume inv_1...
      holdfast inv resume --service ClaimAgent --deployment latest
    """
    _run(_Deed("resume", "resume", query=_query(deployment=deployment)), _selection(**options))


@click.command()
@_selecting
def retry(**options: Any) -> None:
    """Try invocations now that wait for their next attempt, with fresh retry counters.

    \b
      holdfast inv retry inv_1...
      holdfast inv retry --service ClaimAgent
    """
    _run(_Deed("retry", "resume", statuses=("backing-off",)), _selection(**options))


@click.command()
@click.option(
    "--from",
    "from_index",
    type=click.IntRange(0),
    metavar="ENTRY",
    help="Keep the journal up to this entry, with the results of its commands; needs one ID.",
)
@_deployment
@_selecting
def restart(from_index: int | None, deployment: str | None, **options: Any) -> None:
    """Make new invocations of completed ones, with the same input.

    \b
      holdfast inv restart inv_1...
      holdfast inv restart inv_1... --from 7
    """
    selection = _selection(**options)
    if from_index is not None and len(selection.invocation_ids) != 1:
        raise usage_error(
            "--from needs exactly one ID",
            code="HF3051",
            cause="an entry of one journal means nothing in another",
            hint="holdfast inv journal ID shows the entries of an invocation",
        )
    query = _query(**{"from": from_index, "deployment": deployment})
    _run(_Deed("restart", "restart-as-new", query=query), selection)
    if from_index and not selection.is_dry_run:
        note(
            "Awakeables have new ids in the new invocation: those that the old one has handed out"
            " do not reach it."
        )


@click.command()
@click.option(
    "--journal-only", "is_journal_only", is_flag=True, help="Keep the outcome of each invocation."
)
@_selecting
def purge(is_journal_only: bool, **options: Any) -> None:
    """Forget completed invocations before their retention has passed.

    \b
      holdfast inv purge inv_1...
      holdfast inv purge --service Mailer --older-than 1h --yes
    """
    _run(_Deed("purge", "purge-journal" if is_journal_only else "purge"), _selection(**options))


COMMANDS: tuple[click.Command, ...] = (cancel, kill, pause, resume, retry, restart, purge)


def _query(**members: object) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(value)) for name, value in members.items() if value is not None)


def _run(deed: _Deed, selection: _Selection) -> None:
    wanted = selection.filter()
    if bool(wanted) == bool(selection.invocation_ids):
        raise usage_error(
            f"{deed.name} which invocations?",
            code="HF3051",
            cause="give ids or a filter, and not both"
            if wanted
            else "there are neither ids nor a filter",
            hint=f"holdfast inv {deed.name} ID..., or --service NAME, or --all",
        )
    if selection.is_dry_run or wanted:
        found = list(_foreseen(deed, selection, wanted))
        if selection.is_dry_run:
            _print(found, selection, is_done=False)
            note(f"{len(found)} found; nothing was done.")
            return
        if not found:
            note(f"There is nothing to {deed.name}.")
        elif len(found) > 1:
            _confirm(deed, found, selection)
        items = list(_done_in_batches(deed, selection, [str(each["id"]) for each in found]))
    else:
        items = list(_done_one_by_one(deed, selection))
    _print(items, selection, is_done=True)
    refused = sum("error" in item for item in items)
    if refused:
        raise CommandError(
            f"{refused} of {len(items)} were refused",
            code="HF3052",
            exit_code=ExitCode.CONFLICT,
            cause="they are not in a status for it, or not any more",
            hint="The reason of each is above; all others were done.",
        )


def _ask_batch(deed: _Deed, selection: _Selection, body: JsonObject) -> JsonObject:
    answer = selection.server.ask(
        "POST",
        f"/holdfast/v1/invocations/batch/{deed.verb}",
        body=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    return answer.json()


def _foreseen(deed: _Deed, selection: _Selection, wanted: JsonObject) -> Iterator[JsonObject]:
    """Ask what would be done."""
    body: JsonObject = {**wanted, "dry_run": True}
    if selection.invocation_ids:
        body["ids"] = list(selection.invocation_ids)
    elif deed.statuses and "status" not in wanted:
        body["status"] = list(deed.statuses)
    following: object = ""
    while following is not None:
        answer = _ask_batch(deed, selection, body)
        yield from cast("list[JsonObject]", answer["invocations"])
        following = body["before"] = answer["next"]


def _done_in_batches(
    deed: _Deed, selection: _Selection, invocation_ids: list[str]
) -> Iterator[JsonObject]:
    for start in range(0, len(invocation_ids), _PAGE_SIZE_MAX):
        ids = invocation_ids[start : start + _PAGE_SIZE_MAX]
        answer = _ask_batch(deed, selection, {"ids": ids, **dict(deed.query)})
        for item in cast("list[JsonObject]", answer["invocations"]):
            yield {
                name: item[name]
                for name in ("id", "result", "new_invocation_id", "error")
                if item.get(name) is not None
            }


def _done_one_by_one(deed: _Deed, selection: _Selection) -> Iterator[JsonObject]:
    for invocation_id in selection.invocation_ids:
        path = f"/invocations/{quote(invocation_id, safe='')}/{deed.verb}"
        try:
            answer = selection.server.ask("PATCH", path + _printed(deed.query))
        except CommandError as error:
            is_about_it = error.exit_code in (ExitCode.CONFLICT, ExitCode.NOT_FOUND)
            if len(selection.invocation_ids) == 1 or not is_about_it:
                raise
            yield {"id": invocation_id, "error": _view(error)}
            continue
        item: JsonObject = {
            "id": invocation_id,
            "result": deed.result_at_once if answer.status == 200 else deed.result,
        }
        if answer.body:
            item.update(answer.json())
        yield item


def _printed(query: tuple[tuple[str, str], ...]) -> str:
    return f"?{urlencode(query)}" if query else ""


def _view(error: HoldfastError) -> JsonObject:
    return {"message": error.message, "error_code": error.code, "hint": error.hint}


def _confirm(deed: _Deed, found: Sequence[JsonObject], selection: _Selection) -> None:
    """Show what will be done to how many, and ask."""
    if selection.is_sure:
        return
    if not sys.stdin.isatty():
        raise usage_error(
            f"The filter finds {len(found)} invocations, and nobody can be asked",
            code="HF3050",
            hint="See them with --dry-run; then say --yes",
        )
    note(f"{deed.name.capitalize()} {len(found)} invocations:")
    for item in found[:_SAMPLE_COUNT]:
        note(
            f"  {clean(item['id'])}  {styled_status(str(item['status']))}  {clean(item['target'])}"
        )
    if len(found) > _SAMPLE_COUNT:
        note(f"  and {len(found) - _SAMPLE_COUNT} more")
    click.confirm("Go on?", abort=True, err=True)


def _print(items: Sequence[JsonObject], selection: _Selection, *, is_done: bool) -> None:
    if selection.is_json:
        shown: JsonObject = {"invocations": list(items)}
        print_json(shown if is_done else {"dry_run": True, **shown})
        return
    for item in items:
        error = cast("JsonObject", item.get("error") or {})
        cells = [clean(item["id"])]
        if not is_done:
            cells += [clean(item.get("status") or ""), clean(item.get("target") or "")]
        cells.append(f"refused: {clean(error['message'])}" if error else clean(item["result"]))
        if item.get("new_invocation_id"):
            cells.append(clean(item["new_invocation_id"]))
        click.echo("\t".join(cells))


def _ago(option: str, text: str | None) -> str | None:
    if text is None:
        return None
    # Here, because most commands need no durations and should start quickly.
    from holdfast.ingress.duration import parse_delay_ms

    try:
        ago = timedelta(milliseconds=parse_delay_ms(text))
    except HoldfastError as error:
        raise usage_error(
            f"{option} {clean(text)} is no length of time",
            code="HF3053",
            hint="Say 7d, 12h, 5m or 1h 30m",
        ) from error
    return (datetime.now(UTC) - ago).isoformat()
