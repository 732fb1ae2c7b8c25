"""`holdfast deployments` and `holdfast services`."""

from __future__ import annotations

from typing import cast

import click

from holdfast.cli.client import JsonObject, Server
from holdfast.cli.deployment import get, register, remove
from holdfast.cli.option import admin_url, as_json, token
from holdfast.cli.output import clean, moment, note, print_json, print_table
from holdfast.cli.service import config, openapi
from holdfast.cli.service import get as get_service


@click.group()
def deployments() -> None:
    """Register, list, show and remove deployments. Short: dp."""


deployments.add_command(register)
deployments.add_command(get)
deployments.add_command(remove)


@click.group()
def services() -> None:
    """List, show and set up services. Short: svc."""


services.add_command(get_service)
services.add_command(config)
services.add_command(openapi)


@deployments.command("ls")
@admin_url
@token
@as_json
def list_deployments(admin: str, token: str | None, is_json: bool) -> None:
    """List deployments, oldest first.

    \b
      holdfast dp ls
    """
    found = Server(admin, "--admin", token).get("/deployments").json()
    if is_json:
        print_json(found)
        return
    rows = [
        (
            clean(each["id"]),
            clean(each.get("name") or each.get("uri") or ""),
            clean(", ".join(_names(each["services"]))),
            moment(each.get("created_at")),
        )
        for each in cast("list[JsonObject]", found["deployments"])
    ]
    print_table(("ID", "NAME", "SERVICES", "CREATED"), rows)
    if not rows:
        note("No deployments. Connect a worker: holdfast worker MODULE:APP --connect URL")
        note("Or register an endpoint: holdfast deployments register URL")


@services.command("ls")
@admin_url
@token
@as_json
def list_services(admin: str, token: str | None, is_json: bool) -> None:
    """List services by name.

    \b
      holdfast svc ls
    """
    found = Server(admin, "--admin", token).get("/services").json()
    if is_json:
        print_json(found)
        return
    rows = [
        (
            clean(each["name"]),
            clean(each["ty"]),
            clean(", ".join(_names(each["handlers"]))),
            clean(each["deployment_id"]),
            "public" if each["public"] else "private",
        )
        for each in cast("list[JsonObject]", found["services"])
    ]
    print_table(("NAME", "KIND", "HANDLERS", "DEPLOYMENT", "ACCESS"), rows)
    if not rows:
        note("No services. Connect some with: holdfast worker MODULE:APP --connect URL")


def _names(items: object) -> list[str]:
    return [str(item["name"]) for item in cast("list[JsonObject]", items)]
