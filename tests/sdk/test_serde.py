"""Values to bytes and back."""

from __future__ import annotations

import functools
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict

import msgspec
import pydantic
import pytest

from holdfast.domain.errors import UsageError
from holdfast.sdk.serde import (
    BytesSerde,
    MsgspecSerde,
    PydanticSerde,
    Serde,
    SerdeError,
    UntypedSerde,
    return_annotation,
    serde_for,
)


@dataclass
class Point:
    x: int
    y: int = 0


class Movie(TypedDict):
    title: str


class Pair(NamedTuple):
    left: int
    right: str


class Model(pydantic.BaseModel):
    name: str
    alias: int = pydantic.Field(default=1, alias="otherName")


OPAQUE: Any = object()


@dataclass
class Holder:
    models: list[Model]


class Struct(msgspec.Struct):
    points: list[Point]


@pytest.mark.parametrize(
    ("annotation", "value", "content"),
    [
        (int, 3, b"3"),
        (str | None, None, b""),
        (str | None, "a", b'"a"'),
        (None, None, b""),
        (list[Point], [Point(1, 2)], b'[{"x":1,"y":2}]'),
        (Movie, {"title": "M"}, b'{"title":"M"}'),
        (Pair, Pair(1, "b"), b'[1,"b"]'),
        (Struct, Struct([Point(1)]), b'{"points":[{"x":1,"y":0}]}'),
        (dict[int, tuple[int, ...]], {1: (2, 3)}, b'{"1":[2,3]}'),
        (Model, Model(name="n", otherName=2), b'{"name":"n","otherName":2}'),
        (Model | None, None, b""),
        (list[Model], [Model(name="n")], b'[{"name":"n","otherName":1}]'),
        (Holder, Holder([Model(name="n")]), b'{"models":[{"name":"n","otherName":1}]}'),
        (Annotated[int, pydantic.Field(gt=0)], 5, b"5"),
        (Path, Path("/a"), b'"/a"'),
        (bytes, b"\x00\xff", b"\x00\xff"),
        (Any, {"a": [1, None]}, b'{"a":[1,null]}'),
        (object, None, b""),
    ],
)
def test_round_trips(annotation: Any, value: Any, content: bytes) -> None:
    serde = serde_for(annotation)
    assert serde.encode(value) == content
    assert serde.decode(content) == value


def test_what_does_which_type() -> None:
    assert isinstance(serde_for(Point), MsgspecSerde)
    assert isinstance(serde_for(Holder), PydanticSerde)
    assert isinstance(serde_for(bytes), BytesSerde)
    assert isinstance(serde_for(Any), UntypedSerde)
    assert serde_for(Point) is serde_for(Point)
    assert serde_for(list[int]).schema() == {"type": "array", "items": {"type": "integer"}}
    assert serde_for(Model).schema()["properties"]["name"]["type"] == "string"  # type: ignore[index]


@pytest.mark.parametrize(
    ("annotation", "content", "message"),
    [
        (list[Point], b'[{"x":1},{"x":"a"}]', "Expected `int`, got `str` - at `$[1].x`"),
        (Model, b'{"name":1}', "Input should be a valid string - at `$.name`"),
        (Holder, b'{"models":[{}]}', "Field required - at `$.models[0].name`"),
        (int, b"", "expected int, found nothing - at `$`"),
        (Model, b"", "expected Model, found nothing"),
        (int, b"{", "Expected `int`, got `object` - at `$`"),
        (Any, b"{", "Input data was truncated"),
        (str, b'"\xff"', "can't decode byte 0xff"),
        (Any, b"[" * 100_000, "recursion"),
    ],
)
def test_bad_bytes_name_the_path(annotation: Any, content: bytes, message: str) -> None:
    with pytest.raises(SerdeError) as caught:
        serde_for(annotation).decode(content)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (Any, {"a": [1, {"b": open}]}, "cannot be written as JSON - at `$.a[1].b`"),
        (
            dict[str, Any],
            {"a": Point(1, object())},
            "object cannot be written as JSON - at `$.a.y`",
        ),  # type: ignore[arg-type]
        (bytes, "text", "expected bytes, found str"),
        (Any, b"raw", "a bytes without a type would come back as something else"),
        (Any, Point(1), "a Point without a type would come back as something else"),
        (Any, Model(name="n"), "a Model without a type"),
        (Model, {"name": "n"}, "a dict does not fit Model"),
    ],
)
def test_bad_values_name_the_path(annotation: Any, value: Any, message: str) -> None:
    with pytest.raises(SerdeError) as caught:
        serde_for(annotation).encode(value)
    assert message in str(caught.value)


def test_types_without_json_are_refused() -> None:
    class Opaque:
        pass

    with pytest.raises(
        UsageError, match=r"There is no JSON for the type .*Opaque.*HF0504"
    ) as caught:
        serde_for(list[Opaque])
    assert "pydantic model" in caught.value.hint


def test_a_serde_of_your_own() -> None:
    class Upper(Serde[str]):
        content_type = "text/plain"

        def encode(self, value: str) -> bytes:
            return value.upper().encode()

        def decode(self, content: bytes) -> str:
            return content.decode()

    serde = Upper()
    assert serde_for(serde) is serde


def test_return_annotations() -> None:
    def plain(x: int) -> list[int]:
        return [x]

    def forward() -> Point: ...

    def quoted() -> list[Later]: ...  # type: ignore[name-defined]  # noqa: F821

    class Callable:
        def __call__(self) -> int: ...

        async def method(self) -> str: ...

    assert return_annotation(plain) == list[int]
    assert return_annotation(functools.partial(plain, 1)) == list[int]
    assert return_annotation(forward) is Point
    assert return_annotation(quoted) is Any
    assert return_annotation(Callable()) is int
    assert return_annotation(Callable().method) is str
    assert return_annotation(lambda: 1) is Any
    assert return_annotation(len) is Any


def test_importing_holdfast_is_light() -> None:
    code = (
        "import sys, holdfast; "
        "print([m for m in ('pydantic', 'uvloop', 'apsw', 'holdfast.server', 'http.client') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Shout(str):
    """A text of a class of its own, as frameworks return them."""

    def __str__(self) -> str:
        return self.upper()


def test_a_text_of_a_class_of_its_own_is_a_text() -> None:
    for given in (Any, str):
        serde = serde_for(given)
        assert serde.decode(serde.encode(Shout("hello"))) == "hello"
