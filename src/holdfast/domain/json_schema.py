"""JSON schemas: is it one, and does a value fit it. Nothing is fetched, and no pattern hangs."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from jsonschema_rs import Validator

_BACKTRACK_MAX = 100_000
_CACHE_SIZE = 256
_MESSAGE_LENGTH_MAX = 300


class Mismatch(ValueError):
    """A value does not fit its schema.

    Attributes:
        path: Where, as in `$.lines[2].amount`.
        reason: What is wrong there.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{reason} - at `{path}`")
        self.path = path
        self.reason = reason


class NoSchema(ValueError):
    """It is no JSON schema, or refers to something that is not in it."""


def check_schema(schema: bytes) -> None:
    """Make sure that something is a JSON schema.

    Raises:
        NoSchema: It is none.
    """
    _validator(schema)


def check_value(schema: bytes, value: object) -> None:
    """Make sure that a value fits a schema.

    Args:
        schema: JSON of a schema that was checked.
        value: As decoded from JSON.

    Raises:
        Mismatch: It does not fit. Names the first place that is wrong.
    """
    error = next(iter(_validator(schema).iter_errors(value)), None)
    if error is not None:
        path = "$" + "".join(
            f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path
        )
        raise Mismatch(path, error.message[:_MESSAGE_LENGTH_MAX])


@lru_cache(_CACHE_SIZE)
def _validator(schema: bytes) -> Validator:
    # Here, because it takes a while to load, and most programs never ask anybody.
    from jsonschema_rs import FancyRegexOptions, ValidationError, validator_for

    try:
        decoded = msgspec.json.decode(schema, type=dict[str, Any] | bool)
        return validator_for(
            decoded,
            validate_formats=True,
            offline=True,
            pattern_options=FancyRegexOptions(backtrack_limit=_BACKTRACK_MAX),
        )
    except (ValidationError, ValueError) as error:
        raise NoSchema(str(error).partition("\n")[0]) from error
