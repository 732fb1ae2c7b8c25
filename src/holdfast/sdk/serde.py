"""Values to bytes and back, chosen by annotation.

JSON for everything but `bytes`, which pass as they are. msgspec does plain types, dataclasses,
TypedDicts, NamedTuples and its Structs; pydantic does what has pydantic models in it, and is
imported only then. `None` is no bytes at all. Never pickle.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import types
import typing
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import msgspec

from holdfast.domain.errors import UsageError

T = TypeVar("T")

JSON = "application/json"
OCTETS = "application/octet-stream"


class SerdeError(UsageError):
    """A value does not fit its type, or cannot be written."""

    code = "HF0505"


class Serde(Generic[T]):
    """Both directions for one type. Subclass it for another format, and pass it as `type=`."""

    content_type: str = JSON

    def encode(self, value: T) -> bytes:
        """Return the bytes of a value.

        Raises:
            SerdeError: Says which part, by JSON path.
        """
        raise NotImplementedError

    def decode(self, content: bytes) -> T:
        """Return the value of bytes.

        Raises:
            SerdeError: Says which part, by JSON path.
        """
        raise NotImplementedError

    def schema(self) -> dict[str, object] | None:
        """Return the JSON schema of the type, if there is one."""
        return None


class BytesSerde(Serde[bytes]):
    """Bytes as they are."""

    content_type = OCTETS

    def encode(self, value: bytes | None) -> bytes:
        """See `Serde`."""
        if value is None:
            return b""
        if not _is_bytes(value):
            raise SerdeError(f"expected bytes, found {_name(type(value))}")
        return bytes(value)

    def decode(self, content: bytes) -> bytes:
        """See `Serde`."""
        return content


class UntypedSerde(Serde[Any]):
    """JSON without a type: dicts, lists, strings, numbers, booleans and None come back."""

    def encode(self, value: Any) -> bytes:
        """See `Serde`."""
        if value is None:
            return b""
        if _is_bytes(value) or _is_structured(value):
            raise SerdeError(
                f"a {_name(type(value))} without a type would come back as something else",
                hint="Annotate the return type of the function, or pass type=.",
            )
        return _encode_json(value)

    def decode(self, content: bytes) -> Any:
        """See `Serde`."""
        return _decode_json(_any_decoder, content) if content else None


class MsgspecSerde(Serde[T]):
    """JSON by msgspec."""

    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation
        self._is_none_allowed = _allows_none(annotation)
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(annotation)

    def encode(self, value: T) -> bytes:
        """See `Serde`."""
        return b"" if value is None and self._is_none_allowed else _encode_json(value)

    def decode(self, content: bytes) -> T:
        """See `Serde`."""
        if not content:
            return cast("T", _absent(self._annotation, self._is_none_allowed))
        return _decode_json(self._decoder, content)

    def schema(self) -> dict[str, object] | None:
        """See `Serde`."""
        return msgspec.json.schema(self._annotation)


class PydanticSerde(Serde[T]):
    """JSON by pydantic."""

    def __init__(self, annotation: Any) -> None:
        from pydantic import TypeAdapter  # Costs 100 ms, and most programs do not need it.

        self._annotation = annotation
        self._is_none_allowed = _allows_none(annotation)
        self._adapter: TypeAdapter[T] = TypeAdapter(annotation)

    def encode(self, value: T) -> bytes:
        """See `Serde`."""
        if value is None and self._is_none_allowed:
            return b""
        try:
            return self._adapter.dump_json(value, by_alias=True, warnings="error")
        except ValueError as error:
            raise SerdeError(
                f"a {_name(type(value))} does not fit {_name(self._annotation)}: {error}"
            ) from error

    def decode(self, content: bytes) -> T:
        """See `Serde`."""
        if not content:
            return cast("T", _absent(self._annotation, self._is_none_allowed))
        from pydantic import ValidationError

        try:
            return self._adapter.validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            path = "$" + "".join(
                f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]
            )
            raise SerdeError(f"{first['msg']} - at `{path}`") from error

    def schema(self) -> dict[str, object] | None:
        """See `Serde`."""
        return self._adapter.json_schema()


_untyped = UntypedSerde()
_bytes = BytesSerde()
_cache: dict[Any, Serde[Any]] = {}


def serde_for(annotation: Any) -> Serde[Any]:
    """Return how values of a type are written and read.

    Args:
        annotation: A type as in an annotation, or a `Serde`. `Any`, `object` and
            `inspect.Parameter.empty` mean JSON without a type.

    Raises:
        UsageError: HF0504, there is no JSON for this type.
    """
    try:
        found = _cache.get(annotation)
    except TypeError:
        return _make_serde(annotation)
    if found is None:
        found = _cache[annotation] = _make_serde(annotation)
    return found


def _make_serde(annotation: Any) -> Serde[Any]:
    if issubclass(type(annotation), Serde):
        return cast("Serde[Any]", annotation)
    if annotation in (Any, object) or isinstance(annotation, TypeVar):
        return _untyped
    if annotation in (bytes, bytearray, memoryview):
        return _bytes
    try:
        if _needs_pydantic(annotation, set()):
            return PydanticSerde(annotation)
        msgspec.json.schema(annotation)  # Fails for what msgspec cannot read, at any depth.
        return MsgspecSerde(annotation)
    except Exception as error:
        serde = _pydantic_serde(annotation)
        if serde is not None:
            return serde
        why = str(error).partition("\n")[0]
        raise UsageError(
            f"There is no JSON for the type {_name(annotation)}: {why}",
            code="HF0504",
            hint="Use plain types, a dataclass, a TypedDict, a pydantic model or a msgspec Struct.",
        ) from error


def _pydantic_serde(annotation: Any) -> Serde[Any] | None:
    """Try what msgspec cannot do, such as paths, with pydantic if it is there."""
    if importlib.util.find_spec("pydantic") is None:
        return None
    try:
        serde: PydanticSerde[Any] = PydanticSerde(annotation)
        serde.schema()  # Fails for what has no JSON, such as functions.
        return serde
    except Exception:
        # It cannot either, for whatever reason: the caller says why msgspec could not.
        return None


def return_annotation(function: Callable[..., Any]) -> Any:
    """Return the annotated result type of a function, or `Any`."""
    while isinstance(function, functools.partial):
        function = function.func  # pyright: ignore[reportUnknownMemberType]  # of any function
    if not hasattr(function, "__annotations__"):
        function = type(function).__call__
    annotations: object = getattr(function, "__annotations__", None)
    if not isinstance(annotations, dict):  # As those of mocks, which are of any kind.
        return Any
    annotation = cast("dict[str, Any]", annotations).get("return", Any)
    if isinstance(annotation, str) or typing.get_args(annotation):
        try:
            return _return_hint(function)
        except Exception:  # Names that are not there at run time: no type, then.
            return Any
    return annotation


def _return_hint(function: Any) -> Any:
    code = getattr(function, "__code__", function)
    if code not in _return_hints:
        _return_hints[code] = typing.get_type_hints(function, include_extras=True).get(
            "return", Any
        )
    return _return_hints[code]


_return_hints: dict[Any, Any] = {}


# -- details --------------------------------------------------------------------------------------


def _hook(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, str):
        # Frameworks return texts of classes of their own.
        return str.__str__(value)
    raise NotImplementedError


_encoder = msgspec.json.Encoder(enc_hook=_hook)
_any_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


def _encode_json(value: Any) -> bytes:
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, NotImplementedError, RecursionError) as error:
        path, culprit = _find_culprit(value, "$", 0) or ("$", value)
        raise SerdeError(
            f"a {_name(type(culprit))} cannot be written as JSON - at `{path}`",
            hint="Return plain data: take what is needed out of clients, responses and handles.",
        ) from error


def _decode_json(decoder: msgspec.json.Decoder[T], content: bytes) -> T:
    try:
        return decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = str(error)
        if isinstance(error, msgspec.ValidationError) and " - at `" not in text:
            text += " - at `$`"
        raise SerdeError(text) from error


def _absent(annotation: Any, is_none_allowed: bool) -> None:
    if not is_none_allowed:
        raise SerdeError(f"expected {_name(annotation)}, found nothing - at `$`")


def _allows_none(annotation: Any) -> bool:
    if annotation is None or annotation is type(None):
        return True
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _allows_none(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return any(_allows_none(part) for part in typing.get_args(annotation))
    return False


def _is_bytes(value: Any) -> bool:
    return isinstance(value, bytes | bytearray | memoryview)


def _is_structured(value: Any) -> bool:
    return (
        isinstance(value, msgspec.Struct)
        or (dataclasses.is_dataclass(value) and not isinstance(value, type))
        or hasattr(value, "model_dump")
    )


def _is_class(annotation: Any) -> bool:
    return isinstance(annotation, type) and typing.get_origin(annotation) is None


def _needs_pydantic(annotation: Any, seen: set[int]) -> bool:
    if id(annotation) in seen:
        return False
    seen.add(id(annotation))
    if _is_class(annotation):
        if hasattr(annotation, "__get_pydantic_core_schema__") or hasattr(
            annotation, "__pydantic_validator__"
        ):
            return True
        if (
            dataclasses.is_dataclass(annotation)
            or typing.is_typeddict(annotation)
            or hasattr(annotation, "_fields")
        ):
            hints = typing.get_type_hints(annotation, include_extras=True)
            return any(_needs_pydantic(hint, seen) for hint in hints.values())
        return False
    if any(
        type(m).__module__.startswith("pydantic") for m in getattr(annotation, "__metadata__", ())
    ):
        return True
    parts = (typing.get_origin(annotation), *typing.get_args(annotation))
    return any(_needs_pydantic(part, seen) for part in parts)


def _find_culprit(value: Any, path: str, depth: int) -> tuple[str, Any] | None:
    try:
        _encoder.encode(value)
        return None
    except Exception:
        pass  # This is what is looked for: go on to the part that is at fault.
    if depth > 50:
        return path, value
    for inner, step in _parts(value):
        found = _find_culprit(inner, path + step, depth + 1)
        if found is not None:
            return found
    return path, value


def _parts(value: Any) -> list[tuple[Any, str]]:
    if issubclass(type(value), dict):
        return [(inner, f".{key}") for key, inner in value.items()]
    if issubclass(type(value), list | tuple):
        return [(inner, f"[{index}]") for index, inner in enumerate(value)]
    names: list[str] = list(getattr(value, "__struct_fields__", ()))
    if not names and dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
    return [(getattr(value, name), f".{name}") for name in names]


def _name(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation)
