"""Reference pages are complete: commands, settings, verbs, routes and messages."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any, cast, get_args

import click
import pytest

import holdfast
from holdfast.admin.endpoint import Endpoints
from holdfast.cli.option import SETTINGS
from holdfast.cli.root import root
from holdfast.domain import message
from holdfast.protocol import frame
from holdfast.server.config import ServerConfig
from holdfast.server.embedded import EmbeddedClient

from .document import ROOT

REFERENCE = ROOT / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / name).read_text()


def commands(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        return [(path, command)]
    context = click.Context(command)
    found = []
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        found += commands(below, f"{path} {name}")
    return found


def test_every_command_and_option_is_documented() -> None:
    text = page("cli.md")
    sections = dict(re.findall(r"^### `(holdfast[^`]*)`\n(.*?)(?=^##|\Z)", text, re.M | re.S))
    for path, command in commands(root, "holdfast"):
        titles = [title for title in sections if title == path or title.startswith(f"{path} ")]
        assert titles, f"cli.md has no section for {path}"
        section = max((sections[title] for title in titles), key=len)
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                for name in parameter.opts:
                    assert f"`{name}" in section, f"cli.md: {path} does not mention {name}"


def test_documented_options_exist() -> None:
    known = {
        name
        for _, command in commands(root, "holdfast")
        for parameter in command.params
        for name in parameter.opts
    }
    for name in re.findall(r"`(--[a-z][a-z0-9.-]*)", page("cli.md")):
        assert name in known | {"--help"}, f"cli.md: there is no {name}"


def test_every_setting_is_documented() -> None:
    text = page("settings.md")
    for name in (*SETTINGS, *ServerConfig.__dataclass_fields__):
        assert f"`{name}`" in text, f"settings.md does not have {name}"


@pytest.mark.parametrize("name", sorted(set(holdfast.__all__) - {"__version__"}))
def test_every_public_name_is_documented(name: str) -> None:
    assert re.search(rf"`(?:hf\.)?{name}\b", page("python-api.md")), name


@pytest.mark.parametrize(
    "room", ["client", "testing", "testing.scripted_model", "ai.openai_agents"]
)
def test_every_public_name_of_a_room_is_documented(room: str) -> None:
    text = page("python-api.md")
    for name in importlib.import_module(f"holdfast.{room}").__all__:
        assert re.search(rf"`(?:await )?(?:hf\.)?{name}\b", text), name


def public_of(kind: type) -> list[str]:
    return [name for name in dir(kind) if not name.startswith("_")]


def test_every_verb_is_documented() -> None:
    text = page("python-api.md")
    for name in public_of(holdfast.Context):
        assert re.search(rf"`(?:await )?ctx\.{name}\b", text), f"python-api.md: ctx.{name}"
    for name in public_of(EmbeddedClient):
        assert re.search(rf"`client\.{name}\b", text), f"python-api.md: client.{name}"


def test_every_route_of_the_admin_api_is_documented() -> None:
    text = page("http.md")
    source = Path(cast("Any", __import__("inspect")).getfile(Endpoints)).read_text()
    routes = re.findall(r'\("(GET|PATCH|POST|DELETE)", "([^"]+)", self\.', source)
    assert len(routes) > 10
    for method, path in routes:
        assert f"| `{method} {path}` |" in text, f"http.md: {method} {path}"


def test_every_message_is_documented_with_its_number() -> None:
    text = page("protocol.md")
    kinds = [kind for kind in vars(message).values() if isinstance(kind, type)]
    for kind in kinds:
        tag = getattr(getattr(kind, "__struct_config__", None), "tag", None)
        if isinstance(tag, int):
            assert f"| `0x{tag:04X}` | `{kind.__name__}` |" in text, f"{kind.__name__} 0x{tag:04X}"
    for kind in (*get_args(frame.ToServer), *get_args(frame.ToWorker)):
        assert f"| `{kind.__struct_config__.tag}` | `{kind.__name__}` |" in text, kind.__name__
