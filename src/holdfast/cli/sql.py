"""`holdfast sql`."""

from __future__ import annotations

import json
from typing import cast

import click

from holdfast.cli.client import JsonObject, Server
from holdfast.cli.option import admin_url, as_json, token
from holdfast.cli.output import clean, note, print_json, print_table

_ANSWER_TIMEOUT_S = 300.0
"""The server has a limit of its own, which comes first and says what to do."""


@click.command()
@click.argument("query")
@admin_url
@token
@as_json
def sql(query: str, admin: str, token: str | None, is_json: bool) -> None:
    """Ask the server a question in SQL. The tables are in docs/reference/sql.md.

    \b
      holdfast sql "SELECT id, status FROM sys_invocation WHERE status != 'completed'"
      holdfast sql "SELECT table_name FROM information_schema.tables"
    """
    answer = Server(admin, "--admin", token).ask(
        "POST",
        "/query",
        body=json.dumps({"query": query}).encode(),
        headers={"accept": "application/json", "content-type": "application/json"},
        timeout_s=_ANSWER_TIMEOUT_S,
    )
    rows = cast("list[JsonObject]", answer.json()["rows"])
    if is_json:
        print_json({"rows": rows})
        return
    columns = _columns(answer.headers.get("x-holdfast-columns"), rows)
    if columns:
        cells = [[_cell(row.get(column)) for column in columns] for row in rows]
        print_table([clean(column) for column in columns], cells)
    if not rows:
        note("No rows.")


def _columns(header: str | None, rows: list[JsonObject]) -> list[str]:
    """Return the columns; a server that does not list them leaves out those that are null."""
    if header is not None:
        return cast("list[str]", json.loads(header))
    return list(dict.fromkeys(column for row in rows for column in row))


def _cell(value: object) -> str:
    return "" if value is None else clean(value)
