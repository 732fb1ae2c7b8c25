"""`holdfast state`."""

from __future__ import annotations

import json
from typing import cast
from urllib.parse import quote, urlencode

import click

from holdfast.cli.client import JsonObject, Server
from holdfast.cli.option import admin_url, as_json, token
from holdfast.cli.output import clean, moment, note, print_json, print_table
from holdfast.cli.problem import usage_error

_PAGE_KEYS = 1000
_SIZE_SHOWN_MAX = 1 << 30


@click.group()
def state() -> None:
    """Show and edit the state of objects and workflows."""


_if_version = click.option(
    "--if-version",
    metavar="VERSION",
    help="Only if the state still has this version, which get shows.",
)


@state.command("ls")
@click.argument("service")
@click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most."
)
@admin_url
@token
@as_json
def list_keys(service: str, limit: int, admin: str, token: str | None, is_json: bool) -> None:
    """List the keys of a service that have state.

    \b
      holdfast state ls Chat
    """
    server = Server(admin, "--admin", token)
    keys: list[str] = []
    following: object = None
    while len(keys) < limit:
        query = {"limit": str(min(limit - len(keys), _PAGE_KEYS))}
        if following:
            query["after"] = str(following)
        page = server.get(f"/holdfast/v1/state/{quote(service, '')}?{urlencode(query)}").json()
        keys += cast("list[str]", page["keys"])
        following = page["next"]
        if following is None:
            break
    if is_json:
        print_json({"service": service, "keys": keys, "next": following})
        return
    print_table(("KEY",), [(clean(key),) for key in keys])
    if not keys:
        note(f"{clean(service)} has no state.")
    elif following is not None:
        note(f"There are more than {limit}: see them with --limit.")


@state.command()
@click.argument("service")
@click.argument("key")
@click.argument("name", required=False)
@admin_url
@token
@as_json
def get(
    service: str, key: str, name: str | None, admin: str, token: str | None, is_json: bool
) -> None:
    """Show the state of an object key, or print the value of one entry.

    \b
      holdfast state get Chat alice
      holdfast state get Chat alice history
    """
    size_max = "" if name is None else f"?payload_size_max={_SIZE_SHOWN_MAX}"
    found = Server(admin, "--admin", token).get(_path(service, key) + size_max).json()
    entries = cast("list[JsonObject]", found["entries"])
    if name is not None:
        entry = next((each for each in entries if each["name"] == name), None)
        if entry is None:
            raise usage_error(
                f"{service}/{key} has no state entry {name!r}",
                code="HF1272",
                hint=f"holdfast state get {service} {key} lists its entries.",
            )
        if is_json:
            print_json(entry)
        else:
            click.echo(_value_of(entry))
        return
    if is_json:
        print_json(found)
        return
    rows = [
        (
            clean(each["name"]),
            clean(_value_of(each)),
            str(each["size"]),
            moment(each["expires_at"]) if each["expires_at"] else "",
        )
        for each in entries
    ]
    print_table(("NAME", "VALUE", "BYTES", "EXPIRES"), rows)
    if not rows:
        note(f"{clean(service)}/{clean(key)} has no state.")
    note(f"version {clean(found['version'])}")


@state.command("set")
@click.argument("service")
@click.argument("key")
@click.argument("name")
@click.argument("value", metavar="JSON")
@_if_version
@admin_url
@token
@as_json
def set_entry(
    service: str,
    key: str,
    name: str,
    value: str,
    if_version: str | None,
    admin: str,
    token: str | None,
    is_json: bool,
) -> None:
    """Write one entry of the state of an object key.

    While an exclusive invocation has the key, the edit waits for its turn.

    \b
      holdfast state set Counter alice count 5
    """
    try:
        json.loads(value)
    except ValueError as error:
        raise usage_error(
            f"{clean(value[:60])} is not JSON",
            code="HF1273",
            cause=str(error),
            hint="""Quote text twice: holdfast state set Chat alice name '"Ada"'""",
        ) from error
    body = f'{{"set": {{{json.dumps(name)}: {value}}}, "version": {json.dumps(if_version)}}}'
    _edit(Server(admin, "--admin", token), service, key, body, is_json)


@state.command()
@click.argument("service")
@click.argument("key")
@click.argument("name", required=False)
@_if_version
@admin_url
@token
@as_json
def clear(
    service: str,
    key: str,
    name: str | None,
    if_version: str | None,
    admin: str,
    token: str | None,
    is_json: bool,
) -> None:
    """Remove one entry, or without NAME all entries, of the state of an object key.

    \b
      holdfast state clear Chat alice history
    """
    change: JsonObject = {"replace": True} if name is None else {"clear": [name]}
    body = json.dumps({**change, "version": if_version})
    _edit(Server(admin, "--admin", token), service, key, body, is_json)


def _edit(server: Server, service: str, key: str, body: str, is_json: bool) -> None:
    headers = {"content-type": "application/json"}
    answer = server.ask("PATCH", _path(service, key), body=body.encode(), headers=headers).json()
    if is_json:
        print_json(answer)
    elif answer["status"] == "queued":
        note("An invocation has the key: the edit is applied when its turn comes.")
    else:
        note("Done.")


def _path(service: str, key: str) -> str:
    return f"/holdfast/v1/state/{quote(service, '')}/{quote(key, '')}"


def _value_of(entry: JsonObject) -> str:
    value = entry["value"]
    if entry["encoding"] == "json":
        return json.dumps(value, ensure_ascii=False)
    return str(value)
