"""MODULE:APP: what is found, and what is said when it is not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_harness import AGENT

from holdfast.cli.loader import load, parse_source, project_folder
from holdfast.cli.problem import CommandError, ExitCode, describe


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with an agent in it; modules loaded from it are forgotten."""
    monkeypatch.chdir(tmp_path)
    path, modules = sys.path[:], set(sys.modules)
    (tmp_path / "agent_a.py").write_text(AGENT)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def refused(text: str) -> CommandError:
    """Return the error that loading ends with."""
    with pytest.raises(CommandError) as caught:
        load(text)
    assert caught.value.exit_code is ExitCode.USAGE
    return caught.value


@pytest.mark.parametrize("text", ["agent_a:app", "agent_a.py:app", "./agent_a.py:app"])
def test_an_app_is_found_by_module_and_by_file(text: str) -> None:
    assert load(text).manifest.services[0].name == "Greeter"


def test_a_file_may_import_its_neighbours(project: Path) -> None:
    folder = project / "sub"
    folder.mkdir()
    (folder / "neighbour.py").write_text("NAME = 'Neighbour'\n")
    (folder / "main.py").write_text(
        "import holdfast, neighbour\napp = holdfast.App(holdfast.Service(neighbour.NAME))\n"
    )
    assert load("sub/main.py:app").manifest.services[0].name == "Neighbour"


def test_a_file_in_a_package_is_loaded_as_part_of_it(project: Path) -> None:
    folder = project / "shop" / "agents"
    folder.mkdir(parents=True)
    (project / "shop" / "__init__.py").write_text("NAME = 'Shop'\n")
    (folder / "__init__.py").write_text("")
    (folder / "main.py").write_text(
        "import holdfast\nfrom .. import NAME\napp = holdfast.App(holdfast.Service(NAME))\n"
    )
    assert load("shop/agents/main.py:app").manifest.services[0].name == "Shop"


def test_a_file_may_have_the_name_of_another_module(project: Path) -> None:
    (project / "json.py").write_text(AGENT)
    assert load("json.py:app").manifest.services[0].name == "Greeter"
    assert "loads" in dir(sys.modules["json"])


@pytest.mark.parametrize("text", ["agent_a", "agent_a.py", ":app", "agent_a:", "agent_a:a b", ""])
def test_what_is_not_module_and_app_is_refused(text: str) -> None:
    assert refused(text).code == "HF1210"


def test_a_missing_colon_is_pointed_out() -> None:
    assert "agent_a.py:app" in refused("agent_a.py").hint


@pytest.mark.parametrize("text", ["nowhere:app", "nowhere.deep:app", "nowhere.py:app"])
def test_a_missing_module_is_refused(text: str) -> None:
    assert refused(text).code == "HF1211"


def test_a_misspelt_file_is_pointed_out() -> None:
    assert "agent_a.py" in refused("agent_b.py:app").hint


def test_a_missing_name_is_refused_and_the_apps_are_named() -> None:
    error = refused("agent_a.py:ap")
    assert error.code == "HF1212"
    assert error.hint == "Did you mean agent_a.py:app?"


@pytest.mark.parametrize(
    ("value", "kind"),
    [("3", "a int"), ("None", "a NoneType"), ("greeter", "a Service"), ("hf.App", "the class App")],
)
def test_what_is_no_app_is_refused(value: str, kind: str, project: Path) -> None:
    (project / "agent_c.py").write_text(f"{AGENT}\nother = {value}\n")
    error = refused("agent_c:other")
    assert error.code == "HF1213"
    assert kind in error.cause
    assert error.hint == "Did you mean agent_c:app?"


def test_a_failing_import_shows_the_users_line(project: Path) -> None:
    (project / "agent_d.py").write_text(
        "import json\n\ndef read():\n    return json.loads('{')\n\nread()\n"
    )
    error = refused("agent_d:app")
    assert error.code == "HF1214"
    assert "JSONDecodeError" in error.cause
    assert 'File "agent_d.py", line 4, in read' in error.cause
    assert "return json.loads('{')" in error.cause
    assert "frozen" not in error.cause


def test_a_syntax_error_shows_its_place(project: Path) -> None:
    (project / "agent_e.py").write_text("x = (\n")
    error = refused("agent_e.py:app")
    assert error.code == "HF1214"
    assert "agent_e.py" in error.cause
    assert "line 1" in error.cause


def test_a_missing_dependency_is_named(project: Path) -> None:
    (project / "agent_f.py").write_text("import no_such_package\n")
    error = refused("agent_f:app")
    assert error.code == "HF1214"
    assert "no_such_package" in error.hint


def test_a_module_that_exits_is_refused(project: Path) -> None:
    (project / "agent_g.py").write_text("raise SystemExit(3)\n")
    error = refused("agent_g:app")
    assert error.code == "HF1214"
    assert "__main__" in error.hint


def test_errors_of_definitions_keep_their_code_and_gain_a_place(project: Path) -> None:
    (project / "agent_h.py").write_text(
        "import holdfast as hf\nraise hf.UsageError('bad', code='HF0504', hint='mend it')\n"
    )
    error = refused("agent_h:app")
    assert (error.code, error.message, error.hint) == ("HF0504", "bad", "mend it")
    assert 'File "agent_h.py", line 2' in error.cause


def test_an_error_is_three_lines() -> None:
    lines = describe(refused("agent_a.py:ap")).splitlines()
    assert lines[0].endswith("agent_a has no 'ap'")
    assert "error[HF1212]" in lines[0]
    assert lines[1].startswith("  hint:  ")


def test_the_watched_folder_is_that_of_the_project(project: Path) -> None:
    assert project_folder(parse_source("agent_a:app")) == project
    assert project_folder(parse_source("agent_a.py:app")) == project
    # An installed package has no project here; only its own files can change it.
    installed = project_folder(parse_source("click.core:app"))
    assert installed.name == "click"
