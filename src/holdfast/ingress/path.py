"""Paths of requests: segments, keys, and what they name.

A path is split at its slashes first and each segment is percent-decoded once afterwards. So a key
may hold slashes (`%2F`), dots or any other text: it is never taken for a path.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from holdfast.domain.errors import NotFoundError
from holdfast.domain.target import ServiceKind, Target
from holdfast.engine.row import HandlerRow
from holdfast.server.handle import ServerHandle
from holdfast.web.problem import Refusal, shown

KEY_SIZE_BYTES_MAX = 1024

_BAD_ESCAPE = re.compile(rb"%(?![0-9a-fA-F]{2})")
_ROUTES_HINT = (
    "Use /{service}/{handler}, or /{object}/{key}/{handler} for objects and workflows;"
    " append /send to not wait for the result."
)


class Found(NamedTuple):
    """What a path asks for."""

    target: Target
    row: HandlerRow
    is_send: bool


def split_path(raw: bytes) -> list[str]:
    """Return the decoded segments of a path; one trailing slash is ignored.

    Raises:
        Refusal: HF1006, not percent-encoded UTF-8.
    """
    try:
        if b"%" not in raw:
            segments = raw.decode().split("/")
        elif (match := _BAD_ESCAPE.search(raw)) is not None:
            found = raw[match.start() : match.start() + 3].decode("latin-1")
            raise Refusal(
                400,
                "HF1006",
                f"The path has {shown(found)} at byte {match.start()}: not a percent-encoding.",
                hint="Write a percent sign as %25.",
            )
        else:
            segments = [unquote_to_bytes(segment).decode() for segment in raw.split(b"/")]
    except UnicodeDecodeError:
        raise Refusal(
            400,
            "HF1006",
            "The path is not UTF-8 after percent-decoding.",
            hint="Encode text as UTF-8, then percent-encode its bytes.",
        ) from None
    if segments[-1] == "" and len(segments) > 2:
        segments.pop()
    # The path begins with a slash, so the first segment is the nothing before it.
    return segments[1:]


def check_key(key: str, service: str) -> None:
    """Refuse object keys that cannot be stored.

    Raises:
        Refusal: HF1012 empty, HF1013 too long, HF1014 has a NUL.
    """
    if not key:
        raise Refusal(
            400,
            "HF1012",
            f"The key of {shown(service)} is empty.",
            hint=f"Name a key: /{service}/my-key/…",
        )
    if len(key) > KEY_SIZE_BYTES_MAX // 4:
        size = len(key.encode())
        if size > KEY_SIZE_BYTES_MAX:
            raise Refusal(
                400,
                "HF1013",
                f"The key of {shown(service)} has {size} bytes; at most {KEY_SIZE_BYTES_MAX}"
                " are allowed.",
                hint="Use an id or a hash as key, and send long text in the body.",
            )
    if "\0" in key:
        raise Refusal(
            400,
            "HF1014",
            f"The key {shown(key)} has a NUL character.",
            hint="Remove %00 from the path.",
        )


def find(handle: ServerHandle, segments: list[str]) -> Found:
    """Find what `/{service}/{handler}`, `/{object}/{key}/{handler}`, or either with `/send`, asks.

    Raises:
        NotFoundError: HF1001, HF1002.
        Refusal: HF1005 and what `found` raises.
    """
    count = len(segments)
    if count == 2:
        return found(handle, segments[0], None, segments[1], False)
    if count == 3:
        if segments[2] != "send":
            return found(handle, segments[0], segments[1], segments[2], False)
        return _find_ambiguous(handle, segments[0], segments[1])
    if count == 4 and segments[3] == "send":
        return found(handle, segments[0], segments[1], segments[2], True)
    raise no_route("/".join(["", *segments]))


def found(
    handle: ServerHandle, service: str, key: str | None, handler: str, is_send: bool
) -> Found:
    """Find a handler that may be called from outside.

    Raises:
        NotFoundError: HF1001, HF1002.
        Refusal: HF1015 private, and what `find_row` raises.
    """
    row = find_row(handle, service, key, handler)
    if row.manifest.is_private:
        raise Refusal(
            400,
            "HF1015",
            f"{service}/{handler} is private: only other handlers may call it.",
            hint="Call a public handler, or make this one public in its service's definition.",
        )
    return Found(Target(service, handler, key), row, is_send)


def find_row(handle: ServerHandle, service: str, key: str | None, handler: str) -> HandlerRow:
    """Find a handler and check that there is a key exactly when its service has keys.

    Raises:
        NotFoundError: HF1001, HF1002.
        Refusal: HF1010, HF1011 key missing or not allowed; HF1012 … HF1014 bad key.
    """
    row = handle.resolve(service, handler)
    is_unkeyed = row.service_kind is ServiceKind.SERVICE
    if key is None:
        if not is_unkeyed:
            raise key_required(service, handler)
    elif is_unkeyed:
        raise Refusal(
            400,
            "HF1011",
            f"{service} is a plain service and has no keys; found key {shown(key)}.",
            hint=f"Call /{service}/{handler}.",
        )
    else:
        check_key(key, service)
    return row


def key_required(service: str, handler: str) -> Refusal:
    """Return the refusal of a keyed target that came without its key."""
    return Refusal(
        400,
        "HF1010",
        f"{service} is keyed and the path has no key.",
        hint=f"Call /{service}/{{key}}/{handler}.",
    )


def _find_ambiguous(handle: ServerHandle, service: str, middle: str) -> Found:
    """Decide `/{service}/{middle}/send`: a send to a plain service, or handler `send` of a key."""
    try:
        row = handle.resolve(service, middle)
    except NotFoundError as error:
        kinds = {entry.name: entry.kind for entry in handle.services()}
        if kinds.get(service, ServiceKind.SERVICE) is ServiceKind.SERVICE:
            raise error
        return found(handle, service, middle, "send", False)
    if row.service_kind is ServiceKind.SERVICE:
        return found(handle, service, None, middle, True)
    try:
        return found(handle, service, middle, "send", False)
    except NotFoundError:
        # `middle` is a handler of this keyed service: the key was forgotten.
        raise key_required(service, f"{middle}/send") from None


def no_route(path: str, status: int = 400) -> Refusal:
    """Return the refusal of a path that has no meaning."""
    return Refusal(status, "HF1005", f"Path {shown(path)} has no meaning here.", hint=_ROUTES_HINT)
