"""`holdfast services get`, `config` and `openapi`."""

from __future__ import annotations

import json
from typing import cast
from urllib.parse import quote

import click

from holdfast.cli.client import JsonObject, Server
from holdfast.cli.option import admin_url, as_json, token
from holdfast.cli.output import clean, note, print_facts, print_json, print_table

_SETTINGS = (
    "idempotency_retention",
    "workflow_completion_retention",
    "journal_retention",
    "inactivity_timeout",
    "abort_timeout",
)
"""Durations that can be set, as the admin API calls them."""


@click.command("get")
@click.argument("service", metavar="SERVICE")
@admin_url
@token
@as_json
def get(service: str, admin: str, token: str | None, is_json: bool) -> None:
    """Show a service: its settings and its handlers.

    \b
      holdfast svc get WeatherAgent
    """
    found = Server(admin, "--admin", token).get(_path(service)).json()
    if is_json:
        print_json(found)
        return
    facts = [
        ("name", found["name"]),
        ("kind", found["ty"]),
        ("deployment", found["deployment_id"]),
        ("revision", found["revision"]),
        *_settings(found),
    ]
    print_facts([(name, clean(value)) for name, value in facts])
    rows = [
        (
            clean(each["name"]),
            clean(each.get("ty", "")),
            clean(each["input_description"]),
            clean(each["output_description"]),
            "public" if each["public"] else "private",
        )
        for each in cast("list[JsonObject]", found["handlers"])
    ]
    click.echo()
    print_table(("HANDLER", "KIND", "INPUT", "OUTPUT", "ACCESS"), rows)


@click.command("config")
@click.argument("service", metavar="SERVICE")
@click.option("--public/--private", "is_public", default=None, help="Who may call its handlers.")
@click.option("--idempotency-retention", metavar="DURATION", help="How long keys are remembered.")
@click.option(
    "--workflow-retention",
    "workflow_completion_retention",
    metavar="DURATION",
    help="How long a finished workflow is kept.",
)
@click.option("--journal-retention", metavar="DURATION", help="How long journals are kept.")
@click.option("--inactivity-timeout", metavar="DURATION", help="When a waiting attempt suspends.")
@click.option("--abort-timeout", metavar="DURATION", help="When one that does not is cut.")
@admin_url
@token
@as_json
def config(
    service: str,
    is_public: bool | None,
    admin: str,
    token: str | None,
    is_json: bool,
    **durations: str | None,
) -> None:
    """Show the settings of a service, or change those that are given.

    A change holds at once, until the next revision of the service is registered: that begins with
    what its code says. What a handler says itself is not changed.

    \b
      holdfast svc config WeatherAgent
      holdfast svc config WeatherAgent --private --journal-retention 7d
    """
    server = Server(admin, "--admin", token)
    change: JsonObject = {name: value for name, value in durations.items() if value is not None}
    if is_public is not None:
        change["public"] = is_public
    if change:
        body = json.dumps(change).encode()
        headers = {"content-type": "application/json"}
        found = server.ask("PATCH", _path(service), body=body, headers=headers).json()
    else:
        found = server.get(_path(service)).json()
    if is_json:
        print_json({name: found[name] for name in ("name", "public", *_SETTINGS) if name in found})
        return
    print_facts([(name, clean(value)) for name, value in _settings(found)])
    if change:
        note(f"Changed {clean(service)}, for what begins from now on")


@click.command("openapi")
@click.argument("service", metavar="SERVICE")
@admin_url
@token
def openapi(service: str, admin: str, token: str | None) -> None:
    """Print the OpenAPI document of a service, for clients of the ingress.

    \b
      holdfast svc openapi WeatherAgent > weather.json
    """
    document = Server(admin, "--admin", token).get(f"{_path(service)}/openapi").json()
    # As it is: other tools read it, and their format has no member for our version.
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _settings(found: JsonObject) -> list[tuple[str, object]]:
    shown: list[tuple[str, object]] = [("access", "public" if found["public"] else "private")]
    shown += [(name.replace("_", "-"), found[name]) for name in _SETTINGS if name in found]
    return shown


def _path(service: str) -> str:
    return f"/services/{quote(service, safe='')}"
