"""Errors of providers and tools: what they mean, and how they survive the journal with their type.

A recorded failure of a step is a message and a code. Frameworks promise exceptions of their own
(`except openai.BadRequestError`), so the failure also records type, arguments and attributes, and
`restored` makes the same exception of it, at the first time as at each replay. It is a
`TerminalError` as well, because the outcome is recorded and another attempt would only meet it
again. A type that is not loaded, or not on a server that drops the metadata of failures, comes out
as plain `TerminalError` with the same text.

Types of providers are recognised by shape, never by import.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import msgspec

from holdfast.domain.errors import TerminalError

_METADATA_KEY = "holdfast_exception"
_SIZE_BYTES_MAX = 32_768
"""Of what is recorded of an exception beside its text. Larger attributes are left out."""
_CAUSES_MAX = 16
_OURS = ("response", "request", "metadata", "holdfast_metadata", "holdfast_is_decided")
"""Attributes that are recorded in another way, or set again."""
_RESPONSE_HEADERS = ("content-type", "retry-after", "x-request-id", "request-id")

# The request itself is wrong, so the same request will never succeed. Everything else may pass:
# limits, outages, and also missing rights, because an operator can mend those under a running
# invocation, which then goes on without paying again for what it already has.
HOPELESS_STATUSES = frozenset({400, 404, 405, 413, 415, 422})
"""Statuses of a provider that end a model call."""


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that an exception, or one of its causes, stands for."""
    for link in _chain(error):
        for value in (
            getattr(link, "status_code", None),
            getattr(getattr(link, "response", None), "status_code", None),
            getattr(link, "status", None),
            getattr(link, "code", None),
        ):
            if type(value) is int and 400 <= value <= 599:
                return value
    return None


def is_hopeless(error: BaseException) -> bool:
    """Return whether the provider has refused a request in a way that trying again cannot mend."""
    return status_of(error) in HOPELESS_STATUSES


def note(error: Any) -> None:
    """Note on an exception how it is recorded if it becomes the final failure of its step."""
    try:
        error.holdfast_metadata = {_METADATA_KEY: _described(error)}
    except Exception:
        # Foreign exceptions may refuse attributes; then the text alone is recorded.
        return


def terminal(error: Exception, message: str | None = None) -> TerminalError:
    """Return the terminal error that records an exception as the final failure of its step."""
    text = message or _text(error)
    if type(error) is TerminalError:
        return error
    given, code = ({}, 500)
    if isinstance(error, TerminalError):
        given, code = metadata_of(error), error.code
    return TerminalError(text, code=code, metadata={**given, _METADATA_KEY: _described(error)})


def restored(failure: TerminalError) -> TerminalError:
    """Return what a recorded failure was raised as; the failure itself where that is not known."""
    metadata = metadata_of(failure)
    record = metadata.pop(_METADATA_KEY, None)
    if record is None:
        return failure
    failure.metadata = metadata
    try:
        return _rebuild(msgspec.json.decode(record, type=_Record), failure)
    except Exception:
        # Written by another version, or a type with rules of its own: the failure says it all.
        return failure


def metadata_of(failure: TerminalError) -> dict[str, str]:
    """Return the metadata of a failure; subclasses may have forgotten to set it."""
    return dict(getattr(failure, "metadata", None) or {})


class _Response(msgspec.Struct, omit_defaults=True):
    module: str
    status: int
    headers: dict[str, str]
    body: str
    method: str
    url: str


class _Record(msgspec.Struct, omit_defaults=True):
    """What is recorded of an exception."""

    module: str
    name: str
    text: str
    args: list[Any]
    attributes: dict[str, Any]
    status: int | None = None
    response: _Response | None = None
    others: list[tuple[str, str]] = []
    """Modules and names of the other classes that it is, where its own is not in a module."""


def _described(error: Exception) -> str:
    room = _SIZE_BYTES_MAX
    attributes: dict[str, Any] = {}
    for name, value in _attributes(error):
        if (content := _json(value)) is not None and len(content) <= room:
            room -= len(content)
            attributes[name] = msgspec.Raw(content)
    arguments = [argument for argument in error.args if _json(argument) is not None]
    (module, name), *others = _classes_of(type(error))
    record = _Record(
        module=module,
        name=name,
        text=_text(error),
        args=arguments if len(arguments) == len(error.args) else [_text(error)],
        attributes=attributes,
        status=status_of(error),
        response=_response_of(error),
        others=others,
    )
    return msgspec.json.encode(record).decode()


def _classes_of(kind: type) -> list[tuple[str, str]]:
    """Return where a class is found, or those that it was made of while the program ran."""
    if _found(kind.__module__, kind.__qualname__) is kind:
        return [(kind.__module__, kind.__qualname__)]
    return [found for base in kind.__bases__ for found in _classes_of(base)]


def _attributes(error: Exception) -> Iterator[tuple[str, object]]:
    for name, value in vars(error).items():
        if not name.startswith("_") and name not in _OURS:
            yield name, value


def _json(value: object) -> bytes | None:
    try:
        content = msgspec.json.encode(value)
        same = msgspec.json.decode(content)
    except Exception:
        # Whatever has no JSON, or attributes that may not be looked at: it is left out.
        return None
    return content if same == value and type(same) is type(value) else None


def _response_of(error: Exception) -> _Response | None:
    response: Any = getattr(error, "response", None)
    module = type(response).__module__.partition(".")[0]
    if module not in ("httpx", "httpx2"):
        return None
    try:
        headers = {name: response.headers[name] for name in _RESPONSE_HEADERS
                   if name in response.headers}  # fmt: skip
        body = response.text[:_SIZE_BYTES_MAX]
        request = response.request
        url = str(request.url.copy_with(query=None, userinfo=b""))
        return _Response(module, response.status_code, headers, body, request.method, url)
    except Exception:
        # A body that was streamed and is gone, a request that was never set.
        return None


def _rebuild(record: _Record, failure: TerminalError) -> TerminalError:
    kind = _class(record)
    if kind is None:
        raise LookupError(record.name)
    both = _both(kind)
    error = both.__new__(both)
    error.args = tuple(record.args)
    values: dict[str, Any] = {"message": failure.message, **record.attributes}
    if record.response is not None:
        values["response"] = response = _rebuilt_response(record.response)
        values["request"] = response.request
    if not hasattr(kind, "code") and "code" not in values:
        values["code"] = failure.code
    values["metadata"] = {**failure.metadata, "error_type": f"{record.module}.{record.name}"}
    values["_holdfast_text"] = record.text
    values["holdfast_is_decided"] = True
    for name, value in values.items():
        try:
            setattr(error, name, value)
        except AttributeError:
            # A property of the type: it knows its value from others.
            continue
    return error


def _class(record: _Record) -> type[Exception] | None:
    names = [(record.module, record.name), *record.others]
    kinds = [found for module, name in names if (found := _found(module, name)) is not None]
    return _joined(tuple(kinds)) if len(kinds) == len(names) else None


def _found(module: str, name: str) -> type[Exception] | None:
    # Only what the program has loaded itself: a journal must not be able to import anything.
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, Exception) else None


_unions: dict[tuple[type[Exception], ...], type[Exception]] = {}
_classes: dict[type[Exception], type[TerminalError]] = {}
"""Made once per type of exception: `type(a) is type(b)` holds, and memory does not grow."""


def _joined(kinds: tuple[type[Exception], ...]) -> type[Exception]:
    """Return a type that is all of these."""
    if len(kinds) == 1:
        return kinds[0]
    if kinds not in _unions:
        _unions[kinds] = types.new_class(kinds[0].__name__, kinds)
    return _unions[kinds]


def _both(kind: type[Exception]) -> type[TerminalError]:
    """Return a type that is `kind` and a terminal error."""
    if issubclass(kind, TerminalError):
        return kind
    if kind not in _classes:
        bases: tuple[Any, ...] = (kind, TerminalError)
        names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__str__": _said}
        made: Any = types.new_class(kind.__name__, bases, exec_body=lambda body: body.update(names))
        _classes[kind] = made
    return _classes[kind]


def _said(error: Any) -> str:
    text: str = error._holdfast_text
    return text


def _rebuilt_response(record: _Response) -> Any:
    module: Any = sys.modules[record.module]
    return module.Response(
        record.status,
        headers=record.headers,
        content=record.body.encode(),
        request=module.Request(record.method, record.url),
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    for _ in range(_CAUSES_MAX):
        if link is None:
            return
        yield link
        link = link.__cause__


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        # Foreign exceptions may fail to describe themselves.
        return type(error).__name__
