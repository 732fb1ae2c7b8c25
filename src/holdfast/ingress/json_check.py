"""Whether bytes are JSON, without building what they say.

A body is checked before it becomes durable: a handler that can never read its input would otherwise
be a stored failure. The common case is one pass in C.
"""

from __future__ import annotations

import re
from itertools import accumulate

import msgspec

from holdfast.web.problem import Refusal

DEPTH_MAX = 128
"""Deepest nesting of arrays and objects; parsers in other languages give up not far beyond."""

_skim = msgspec.json.Decoder(msgspec.Raw).decode

_AT_BYTE = re.compile(r"^JSON is malformed: (.*) \(byte ([0-9]+)\)$")
_LONE_HIGH_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


def check_json(body: bytes) -> None:
    """Refuse a body that is not well-formed JSON.

    Raises:
        Refusal: HF1022 malformed, HF1023 NaN or Infinity, HF1024 too deep, HF1025 text that is not
            Unicode.
    """
    try:
        _skim(body)
    except RecursionError:
        raise _too_deep() from None
    except msgspec.DecodeError as error:
        raise _malformed(body, str(error)) from None
    # Counting brackets is quick, and most bodies have too few to be deep.
    if body.count(b"[") + body.count(b"{") > DEPTH_MAX and _depth(body) > DEPTH_MAX:
        raise _too_deep()
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            line, column = position(body, error.start)
            raise Refusal(
                400,
                "HF1025",
                f"The body is not UTF-8: bad byte 0x{body[error.start]:02x} at line {line},"
                f" column {column}.",
                hint="Encode JSON as UTF-8.",
            ) from None


def is_json(content: bytes) -> bool:
    """Whether bytes are well-formed JSON within our limits."""
    try:
        check_json(content)
    except Refusal:
        return False
    return True


def position(body: bytes, offset: int) -> tuple[int, int]:
    """Return line and column, both from 1, of a byte; columns count characters."""
    line_start = body.rfind(b"\n", 0, offset) + 1
    line = body.count(b"\n", 0, offset) + 1
    return line, len(body[line_start:offset].decode(errors="replace")) + 1


def _depth(body: bytes) -> int:
    """Return the nesting depth of well-formed JSON, in linear time and without recursion."""
    # Escaped backslashes first: what is left before a quote then really escapes it. Every second
    # piece between quotes lies outside of strings.
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = b"".join(plain.split(b'"')[::2])
    steps = outside.translate(_STEPS, delete=_NOT_BRACKETS)
    return max(accumulate(memoryview(steps).cast("b")), default=0)


def _too_deep() -> Refusal:
    return Refusal(
        400,
        "HF1024",
        f"The body nests arrays and objects more than {DEPTH_MAX} levels deep.",
        hint="Flatten the data, or send the inner part as a string.",
    )


def _malformed(body: bytes, text: str) -> Refusal:
    match = _AT_BYTE.match(text)
    surrogate = _LONE_HIGH_SURROGATE.search(body)
    if match is None and surrogate is not None:
        return _lone_surrogate(body, surrogate.start())
    if match is None:
        reason, offset = "it ends too early", len(body)
    else:
        reason, offset = match[1], int(match[2])
    if reason == "trailing characters":
        # The decoder has stepped over the first of them.
        reason, offset = "nothing may follow the value", offset - 1
    if reason == "invalid utf-16 surrogate pair":
        return _lone_surrogate(body, offset)
    line, column = position(body, offset)
    where = f"at line {line}, column {column}"
    for name in ("NaN", "Infinity"):
        if body.startswith(name.encode(), offset):
            return Refusal(
                400,
                "HF1023",
                f"The body is not JSON: {name} {where}; JSON has no such number.",
                hint="Send null or a string instead (in Python: json.dumps(…, allow_nan=False)"
                " finds the place).",
            )
    return Refusal(
        400,
        "HF1022",
        f"The body is not JSON: {reason} {where}.",
        hint='Send JSON, for example {"name": "Ann"} or "Ann"; text needs double quotes.',
    )


def _lone_surrogate(body: bytes, offset: int) -> Refusal:
    line, column = position(body, offset)
    return Refusal(
        400,
        "HF1025",
        f"The body has half of a surrogate pair at line {line}, column {column};"
        " that is no character.",
        hint="Characters beyond U+FFFF are two \\u escapes; or send them as UTF-8.",
    )
