"""`holdfast invocations prompts`, and what invocations have spent on models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import cast
from urllib.parse import quote

import click

from holdfast.cli.client import JsonObject, Server
from holdfast.cli.option import admin_url, as_json, token
from holdfast.cli.output import clean, moment, note, print_json, print_table


@click.command()
@click.argument("invocation_id", metavar="ID")
@click.argument("number", metavar="[N]", required=False, type=click.IntRange(1))
@admin_url
@token
@as_json
def prompts(
    invocation_id: str, number: int | None, admin: str, token: str | None, is_json: bool
) -> None:
    """List the model calls of an invocation, or show the prompt and the answer of the Nth.

    \b
      holdfast inv prompts inv_1...
      holdfast inv prompts inv_1... 3
    """
    server = Server(admin, "--admin", token)
    path = f"/holdfast/v1/invocations/{quote(invocation_id, safe='')}/model-calls"
    found = server.get(path).json()
    calls = cast("list[JsonObject]", found["model_calls"])
    if number is None:
        if is_json:
            print_json(found)
        else:
            _print_calls(calls)
        return
    if number > len(calls):
        raise click.BadParameter(
            f"{number}: {invocation_id} has {len(calls)} model calls", param_hint="N"
        )
    call = calls[number - 1]
    shown = server.get(f"{path}/{call['completion_id']}?attempt={call['attempt']}").json()
    if is_json:
        print_json({"model_call": shown})
    else:
        _print_prompt(shown)


def spent(invocation: JsonObject) -> str:
    """Return in one line what the model calls of an invocation add up to; empty: there are none."""
    totals = cast("JsonObject", invocation.get("model_calls") or {})
    count = totals.get("count")
    if not count:
        return ""
    usage = cast("JsonObject", totals["usage"])
    tokens = f"{usage['input']} tokens in ({usage['cached_input']} cached), {usage['output']} out"
    costs = [
        f"{each['amount']} {each['currency']}" for each in cast("list[JsonObject]", totals["costs"])
    ]
    unknown = totals["count_without_cost"]
    if unknown:
        costs.append(f"{unknown} of unknown cost")
    return clean(f"{count}: {tokens}, {' + '.join(costs)}")


def _print_calls(calls: Sequence[JsonObject]) -> None:
    rows = [
        (
            str(place),
            moment(call["at"]),
            clean(call["response_model"] or call["request_model"]),
            _number(cast("JsonObject", call["usage"]).get("input")),
            _number(cast("JsonObject", call["usage"]).get("output")),
            _cost(call),
            _number(call["latency_ms"]),
            clean(call["error"] or ", ".join(cast("list[str]", call["finish_reasons"]))),
        )
        for place, call in enumerate(calls, 1)
    ]
    heads = ("N", "AT", "MODEL", "TOKENS IN", "OUT", "COST", "TOOK (MS)", "END")
    print_table(heads, rows)
    if not rows:
        note("No model calls were recorded.")


def _number(value: object) -> str:
    return "?" if value is None else str(value)


def _cost(call: JsonObject) -> str:
    cost = cast("JsonObject | None", call["cost"])
    return "?" if cost is None else clean(f"{cost['amount']} {cost['currency']}")


def _print_prompt(call: JsonObject) -> None:
    why = call["omitted"]
    if why:
        note(f"What was said is not kept: {clean(why)}")
    for message in cast("list[object]", call["messages"]):
        _print_message(message)
    if call["answer"] is not None:
        click.echo(click.style("--- answer", bold=True))
        _print_message(call["answer"])


def _print_message(message: object) -> None:
    fields: JsonObject = cast("JsonObject", message) if isinstance(message, dict) else {}
    who = fields.get("role") or fields.get("kind") or fields.get("type")
    content = fields.get("content")
    if who and isinstance(content, str) and len(fields) == 2:
        click.echo(click.style(f"--- {clean(who)}", bold=True))
        # Its lines are its own; nothing else of it reaches the terminal.
        click.echo("\n".join(clean(line) for line in content.splitlines()))
        return
    if who:
        click.echo(click.style(f"--- {clean(who)}", bold=True))
    text = json.dumps(message, ensure_ascii=False, indent=2)
    click.echo("\n".join(clean(line) for line in text.splitlines()))
