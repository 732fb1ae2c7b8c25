"""Payloads as people read them."""

from __future__ import annotations

import base64
from codecs import getincrementaldecoder

import msgspec

SIZE_SHOWN_BYTES = 65_536
"""How much of a payload is shown unless more is asked for."""

_skim = msgspec.json.Decoder(msgspec.Raw).decode


def view_payload(content: bytes, size_max: int = SIZE_SHOWN_BYTES) -> dict[str, object]:
    """Show bytes as JSON when they are JSON, else as text when they are UTF-8, else as base64.

    Args:
        content: The bytes.
        size_max: Show at most so many bytes; what is longer is cut and never shown as JSON.

    Returns:
        `encoding` (`json`, `text` or `base64`), `value`, `size` in bytes; `is_truncated` when cut.
    """
    size = len(content)
    if size > size_max:
        return {**_view_cut(content[:size_max]), "size": size, "is_truncated": True}
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return {"encoding": "base64", "value": base64.b64encode(content).decode(), "size": size}
    try:
        # Embedded as it is: decoding and encoding again would round large numbers.
        return {"encoding": "json", "value": _skim(content), "size": size}
    except (msgspec.DecodeError, RecursionError):
        return {"encoding": "text", "value": text, "size": size}


def _view_cut(content: bytes) -> dict[str, object]:
    try:
        # The cut may have gone through a character; this decoder leaves out such an end.
        return {"encoding": "text", "value": getincrementaldecoder("utf-8")().decode(content)}
    except UnicodeDecodeError:
        return {"encoding": "base64", "value": base64.b64encode(content).decode()}
