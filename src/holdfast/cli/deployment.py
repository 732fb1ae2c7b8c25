"""`holdfast deployments register`, `get` and `rm`."""

from __future__ import annotations

import json
import sys
from typing import cast
from urllib.parse import quote

import click

from holdfast.cli.client import JsonObject, Server
from holdfast.cli.option import admin_url, as_json, token
from holdfast.cli.output import clean, moment, note, print_facts, print_json, print_table
from holdfast.cli.problem import usage_error

_REGISTER_TIMEOUT_S = 90.0
"""The server asks the endpoint, several times if it must."""

is_sure_option = click.option("--yes", "-y", "is_sure", is_flag=True, help="Do not ask.")


@click.command("register")
@click.argument("url")
@click.option("--use-http1.1", "is_http_1", is_flag=True, help="Speak HTTP/1.1, not HTTP/2.")
@click.option("--force", "is_forced", is_flag=True, help="Ask a known endpoint again.")
@click.option("--breaking", "is_breaking", is_flag=True, help="Let services change their kind.")
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Show what would be registered.")
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="NAME=VALUE",
    help="Sent to the endpoint with every request. Can be given several times.",
)
@click.option(
    "--metadata", "labels", multiple=True, metavar="NAME=VALUE", help="A label to remember."
)
@is_sure_option
@admin_url
@token
@as_json
def register(
    url: str,
    is_http_1: bool,
    is_forced: bool,
    is_breaking: bool,
    is_dry_run: bool,
    headers: tuple[str, ...],
    labels: tuple[str, ...],
    is_sure: bool,
    admin: str,
    token: str | None,
    is_json: bool,
) -> None:
    """Register an endpoint that serves handlers over HTTP.

    The server asks it what it serves. New invocations of these services go there from now on; open
    ones stay where they began. On a terminal the services are shown first.

    \b
      holdfast dp register http://127.0.0.1:9080
      holdfast dp register https://handlers.example.com --header authorization='Bearer s3cret'
    """
    body: JsonObject = {
        "uri": url,
        "use_http_11": is_http_1,
        "force": is_forced,
        "breaking": is_breaking,
        "additional_headers": _pairs("--header", headers) or None,
        "metadata": _pairs("--metadata", labels) or None,
    }
    server = Server(admin, "--admin", token)
    asks = sys.stdin.isatty() and not is_sure and not is_dry_run
    if is_dry_run or asks:
        found, _ = _post(server, {**body, "dry_run": True})
        if is_dry_run:
            _show(found, is_json)
            note("Nothing was registered: --dry-run")
            return
        _show(found, False)
        click.confirm("Register it?", abort=True, err=True)
    found, is_new = _post(server, body)
    _show(found, is_json)
    deployment_id = clean(found["id"])
    if is_new:
        note(f"Registered as {deployment_id}")
    elif is_forced:
        note(f"Registered anew as {deployment_id}")
    else:
        note(f"It was registered before, as {deployment_id}. To ask it again, say --force")


@click.command("get")
@click.argument("deployment_id", metavar="ID")
@admin_url
@token
@as_json
def get(deployment_id: str, admin: str, token: str | None, is_json: bool) -> None:
    """Show a deployment, and how many open invocations are pinned to it.

    A status of draining means: new invocations go elsewhere, old ones are still open here.

    \b
      holdfast dp get dp_149kW7TiajOESTuNaWonp8B
    """
    found = Server(admin, "--admin", token).get(f"{_path(deployment_id)}?open=true").json()
    if is_json:
        print_json(found)
        return
    services = cast("list[JsonObject]", found["services"])
    facts = [
        ("id", found["id"]),
        ("address", found.get("uri")),
        ("status", found.get("status")),
        ("open", found.get("open_invocations")),
        ("http", found.get("http_version")),
        ("protocol", f"{found.get('protocol_type')} {found.get('max_protocol_version')}"),
        ("sdk", found.get("sdk_version", "")),
        ("created", moment(found.get("created_at"))),
        ("services", ", ".join(f"{each['name']} ({each['revision']})" for each in services)),
    ]
    print_facts([(name, clean(value)) for name, value in facts if value not in (None, "")])


@click.command("rm")
@click.argument("deployment_id", metavar="ID")
@click.option("--force", "is_forced", is_flag=True, help="Also while it is in use.")
@is_sure_option
@admin_url
@token
def remove(
    deployment_id: str, is_forced: bool, is_sure: bool, admin: str, token: str | None
) -> None:
    """Remove a deployment.

    One that is in use is kept: new invocations go there, or open ones are pinned to it. With
    --force it goes all the same, and those that are pinned to it wait for ever.

    \b
      holdfast dp rm dp_149kW7TiajOESTuNaWonp8B
    """
    if is_forced and not is_sure:
        if not sys.stdin.isatty():
            raise usage_error(
                "Removing a deployment that is in use needs a yes",
                code="HF1200",
                hint="Say --yes, or leave --force out",
            )
        click.confirm(f"Remove {clean(deployment_id)}, even if it is in use?", abort=True, err=True)
    query = "?force=true" if is_forced else ""
    Server(admin, "--admin", token).ask("DELETE", f"{_path(deployment_id)}{query}")
    note(f"Removed {clean(deployment_id)}")


def _post(server: Server, body: JsonObject) -> tuple[JsonObject, bool]:
    answer = server.ask(
        "POST",
        "/deployments",
        body=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
        timeout_s=_REGISTER_TIMEOUT_S,
    )
    return answer.json(), answer.status == 201


def _show(found: JsonObject, is_json: bool) -> None:
    if is_json:
        print_json(found)
        return
    rows = [
        (
            clean(each["name"]),
            clean(each["ty"]),
            clean(each["revision"]),
            clean(", ".join(str(h["name"]) for h in cast("list[JsonObject]", each["handlers"]))),
        )
        for each in cast("list[JsonObject]", found["services"])
    ]
    print_table(("SERVICE", "KIND", "REVISION", "HANDLERS"), rows)


def _path(deployment_id: str) -> str:
    return f"/deployments/{quote(deployment_id, safe='')}"


def _pairs(option: str, texts: tuple[str, ...]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise usage_error(
                f"{option} {text.partition('=')[0]!r} has no value",
                code="HF1200",
                hint=f"Write {option} NAME=VALUE",
            )
        pairs[name.strip()] = value
    return pairs
