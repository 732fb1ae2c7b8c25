"""Serves the pages of the UI: files of this package, as they are.

The files have an address with the hash of all of them, so browsers may keep them for ever, and a
page never mixes files of two versions. Only the page itself is asked for each time.
"""

from __future__ import annotations

import gzip
from hashlib import blake2b
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

from holdfast.web.asgi import ASGIApp, Headers, Receive, Response, Scope, Send, send_response

PATH = "/ui"
INGRESS_PATH = "/holdfast/v1/ingress"
"""Where pages find the ingress: they may only ask the server that they came from."""

_TYPES = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    b"connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; "
    b"frame-ancestors 'none'"
)
"""Pages show what models and tools said, so nothing but our own files may run in them."""
_PLACEHOLDER = b"__VERSION__"


class _File(NamedTuple):
    type: bytes
    plain: bytes
    gzipped: bytes


def create_ui_app() -> ASGIApp:
    """Read the files and make the application; mount it at `PATH`."""
    return _Ui(_read(files("holdfast.admin") / "ui"))


def _read(folder: Traversable, prefix: str = "") -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            found.update(_read(entry, f"{prefix}{entry.name}/"))
        elif entry.name.rpartition(".")[2] in _TYPES:
            found[f"{prefix}{entry.name}"] = entry.read_bytes()
    return found


class _Ui:
    """The application."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        digest = blake2b(digest_size=8)
        for name, content in contents.items():
            digest.update(b"%s %d " % (name.encode(), len(content)) + content)
        self._version = digest.hexdigest()
        page = contents.pop("index.html").replace(_PLACEHOLDER, self._version.encode())
        self._page = _prepared("index.html", page)
        self._files = {name: _prepared(name, content) for name, content in contents.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] not in ("GET", "HEAD"):
            await _send(scope, send, Response(405, [(b"allow", b"GET, HEAD")], b""))
            return
        _, _, path = scope["path"].partition(f"{PATH}/")
        version, _, name = path.removeprefix("v/").partition("/")
        if path.startswith("v/"):
            found = self._files.get(name) if version == self._version else None
            kept = b"public, max-age=31536000, immutable"
        else:
            # Views are behind the hash, so there is one page.
            found = self._page if path == "" else None
            kept = b"no-store"
        if found is None:
            text = b"There is no such file here. The UI is at /ui/\n"
            await _send(scope, send, Response(404, [(b"content-type", b"text/plain")], text))
            return
        is_gzip = any(n == b"accept-encoding" and b"gzip" in v for n, v in scope["headers"])
        headers: Headers = [
            (b"content-type", found.type),
            (b"cache-control", kept),
            (b"vary", b"accept-encoding"),
        ]
        if is_gzip:
            headers.append((b"content-encoding", b"gzip"))
        body = found.gzipped if is_gzip else found.plain
        await _send(scope, send, Response(200, headers, body))


def _prepared(name: str, content: bytes) -> _File:
    return _File(_TYPES[name.rpartition(".")[2]], content, gzip.compress(content, 9, mtime=0))


async def _send(scope: Scope, send: Send, response: Response) -> None:
    response.headers.extend(
        (
            (b"content-security-policy", _POLICY),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"x-frame-options", b"DENY"),
        )
    )
    if scope["method"] == "HEAD":
        length = b"%d" % len(response.body)
        head = [*response.headers, (b"content-length", length)]
        await send({"type": "http.response.start", "status": response.status, "headers": head})
        await send({"type": "http.response.body", "body": b""})
    else:
        await send_response(send, response)
