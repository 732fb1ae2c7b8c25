"""Finds the app that MODULE:APP names, and says clearly why it cannot.

MODULE is a dotted name, found as `python -m` would find it: first in the working directory. Or it
is the path of a Python file; then its folder (or that of its outermost package) comes first.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import traceback
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, TypeGuard

from holdfast.cli.problem import CommandError, ExitCode, usage_error
from holdfast.domain.errors import HoldfastError
from holdfast.domain.target import Manifest
from holdfast.transport.base import HandlerPort

_EXAMPLE = "For example agent.py:app, or shop.agents:app"


class Source(NamedTuple):
    """Where an app is to be found."""

    root: Path
    """Goes to the front of the module search path."""
    module: str
    attribute: str
    file: Path | None
    """Set when a file was named."""


def parse_source(text: str) -> Source:
    """Read MODULE:APP. Imports nothing.

    Raises:
        CommandError: HF1210 not of this form; HF1211 no such file.
    """
    where, separator, attribute = text.rpartition(":")
    if not separator or not where or not attribute.isidentifier():
        near = text if separator else f"{text}:app"
        raise usage_error(
            f"{text!r} does not name an app",
            code="HF1210",
            cause="expected MODULE:APP, the module and the name of the app in it",
            hint=f"Perhaps {near}? {_EXAMPLE}" if near != text else _EXAMPLE,
        )
    is_file = where.endswith(".py") or "/" in where or "\\" in where
    if not is_file:
        return Source(Path.cwd(), where, attribute, None)
    file = Path(where).resolve()
    if not file.is_file():
        raise usage_error(f"There is no file {where}", code="HF1211", hint=_near_files(file))
    root, names = file.parent, [file.stem]
    while (root / "__init__.py").is_file():
        names.insert(0, root.name)
        root = root.parent
    return Source(root, ".".join(names).removesuffix(".__init__"), attribute, file)


def load(text: str) -> HandlerPort:
    """Import and return the app that MODULE:APP names.

    Raises:
        CommandError: HF1210 not of this form; HF1211 no such module; HF1212 no such name in it;
            HF1213 that is no app; HF1214 the module fails when it is imported.
    """
    source = parse_source(text)
    sys.path.insert(0, str(source.root))
    module = _import(source)
    value: object = getattr(module, source.attribute, None)
    if value is None and not hasattr(module, source.attribute):
        raise usage_error(
            f"{source.module} has no {source.attribute!r}",
            code="HF1212",
            hint=_near_names(module, source),
        )
    if not _is_app(value):
        raise usage_error(
            f"{text} is not an app",
            code="HF1213",
            cause=f"it is {_kind_of(value)}; expected holdfast.App",
            hint=_near_names(module, source),
        )
    return value


def project_folder(source: Source) -> Path:
    """Return the folder whose files belong to an app, without importing it."""
    if source.file is not None:
        return source.root
    top = source.module.partition(".")[0]
    spec = PathFinder.find_spec(top, [str(source.root), *sys.path])
    if spec is None or spec.origin is None:
        return source.root
    origin = Path(spec.origin).resolve()
    if source.root in origin.parents and "site-packages" not in origin.parts:
        return source.root
    return origin.parent


def _is_app(value: object) -> TypeGuard[HandlerPort]:
    return (
        callable(getattr(value, "open", None))
        and isinstance(getattr(value, "deployment_name", None), str)
        and isinstance(getattr(value, "manifest", None), Manifest)
    )


def _import(source: Source) -> ModuleType:
    try:
        if source.file is not None:
            return _import_file(source, source.file)
        return importlib.import_module(source.module)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if source.module == missing or source.module.startswith(missing + "."):
            raise usage_error(
                f"There is no module {missing!r}",
                code="HF1211",
                cause=f"looked in {Path.cwd()} and in the installed packages",
                hint="Run this in the folder of your project, or name a file: path/to/agent.py:app",
            ) from error
        raise _failed_import(source, error) from error
    except HoldfastError as error:
        # The SDK says well what is wrong with a definition; what it cannot say is where.
        raise CommandError(
            error.message,
            code=error.code,
            exit_code=ExitCode.USAGE,
            cause=_place_of(error),
            hint=error.hint,
        ) from error
    except (Exception, SystemExit) as error:
        raise _failed_import(source, error) from error


def _import_file(source: Source, file: Path) -> ModuleType:
    # Not by name: a file called `json.py` or `test.py` would find another module of that name.
    name = source.module if source.module not in sys.modules else f"_holdfast_{file.stem}"
    if "." in name:
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None, "a file that exists has a location"
    assert spec.loader is not None, "a Python file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _failed_import(source: Source, error: BaseException) -> CommandError:
    said = "".join(traceback.format_exception_only(error)).strip()
    hint = "HOLDFAST_DEBUG=1 shows the whole traceback."
    if isinstance(error, ModuleNotFoundError):
        hint = f"Install what provides {error.name!r} where this command runs: {sys.prefix}"
    elif isinstance(error, SystemExit):
        said = f"it exits (with code {error.code})"
        hint = "Put what the file does when it is run under: if __name__ == '__main__'"
    return usage_error(
        f"{source.module} fails when it is imported",
        code="HF1214",
        cause=f"{said}\n{_place_of(error)}",
        hint=hint,
    )


def _place_of(error: BaseException) -> str:
    """Return the last line of the user's own code that an error passed through."""
    if isinstance(error, SyntaxError):
        return ""  # Its text already has file and line.
    own = Path(__file__).parents[1]
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and own not in Path(frame.filename).parents
    ]
    # Standard library and installed packages are not what the user can change.
    mine = [frame for frame in frames if not _is_installed(frame.filename)] or frames
    if not mine:
        return ""
    last = mine[-1]
    return f'File "{_relative(last.filename)}", line {last.lineno}, in {last.name}\n  {last.line}'


def _is_installed(filename: str) -> bool:
    return "site-packages" in filename or filename.startswith(sys.base_prefix)


def _relative(filename: str) -> str:
    try:
        return str(Path(filename).relative_to(Path.cwd()))
    except ValueError:
        return filename


def _kind_of(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


def _near_names(module: ModuleType, source: Source) -> str:
    apps = [name for name, value in vars(module).items() if _is_app(value)]
    if apps:
        where = source.file.name if source.file is not None else source.module
        return f"Did you mean {' or '.join(f'{where}:{name}' for name in apps)}?"
    names = [name for name in vars(module) if not name.startswith("_")]
    near = difflib.get_close_matches(source.attribute, names, n=3)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return f"Make one in it: {source.attribute} = holdfast.App(your_service)"


def _near_files(file: Path) -> str:
    names = [each.name for each in file.parent.glob("*.py")] if file.parent.is_dir() else []
    near = difflib.get_close_matches(file.name, names, n=3)
    return f"Did you mean {' or '.join(near)}?" if near else _EXAMPLE
