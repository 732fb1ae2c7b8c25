"""What the admin API answers about the state of objects."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated

import msgspec

from holdfast.admin.http import Request, decode_body, json_response
from holdfast.admin.payload import view_payload
from holdfast.admin.query import parse_keys_page, parse_payload_size_max
from holdfast.domain.errors import ConflictError, NotFoundError
from holdfast.domain.target import ServiceKind
from holdfast.engine.decision import Reply
from holdfast.engine.limit import STATE_VALUE_BYTES_MAX
from holdfast.engine.on_state import state_version
from holdfast.engine.row import StateEdit
from holdfast.server.handle import ServerHandle
from holdfast.web.asgi import Response
from holdfast.web.instant import iso_time
from holdfast.web.problem import Refusal, shown

_NAME_BYTES_MAX = 1024

_Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]


class _Edit(msgspec.Struct, forbid_unknown_fields=True):
    """Body of an edit by us."""

    set: dict[str, msgspec.Raw] = {}
    set_base64: dict[str, str] = {}
    clear: list[str] = []
    replace: bool = False
    version: str | None = None


class _Replacement(msgspec.Struct):
    """Body of an edit by Restate's tools."""

    object_key: str
    new_state: dict[str, list[_Byte]]
    version: str | None = None


_decode_edit = msgspec.json.Decoder(_Edit).decode
_decode_replacement = msgspec.json.Decoder(_Replacement).decode


class StateEndpoints:
    """The answers, each a method that a route leads to."""

    def __init__(self, handle: ServerHandle) -> None:
        self._handle = handle

    def routes(
        self,
    ) -> tuple[tuple[str, str, Callable[[Request], Awaitable[Response]]], ...]:
        """Return the routes."""
        return (
            ("GET", "/holdfast/v1/state/{service}", self.keys),
            ("GET", "/holdfast/v1/state/{service}/{key}", self.state),
            ("PATCH", "/holdfast/v1/state/{service}/{key}", self.edit),
            ("POST", "/services/{service}/state", self.replace),
        )

    async def keys(self, request: Request) -> Response:
        """List the keys of a service that have state, sorted."""
        [service] = request.params
        after, limit = parse_keys_page(request.query)
        self._check_keyed(service)
        # One more than asked for tells whether there is a next page.
        keys = await self._handle.state_keys(service, after, limit + 1)
        if not keys and not after:
            self._check_known(service)
        following = keys[limit - 1] if len(keys) > limit else None
        return json_response({"service": service, "keys": keys[:limit], "next": following})

    async def state(self, request: Request) -> Response:
        """Show the state of an object key, by name."""
        service, key = request.params
        size_max = parse_payload_size_max(request.query)
        self._check_keyed(service, key)
        state = await self._handle.state(service, key)
        if not state:
            # State outlives the deployment that wrote it, so only now is the service unknown.
            self._check_known(service)
        entries = [
            {
                "name": name,
                **view_payload(row.value, size_max),
                "expires_at": iso_time(row.expires_at_ms) if row.expires_at_ms else None,
            }
            for name, row in state.items()
        ]
        version = state_version({name: row.value for name, row in state.items()})
        return json_response(
            {"service": service, "key": key, "version": version, "entries": entries}
        )

    async def edit(self, request: Request) -> Response:
        """Change entries of the state of an object key."""
        service, key = request.params
        body = decode_body(request.body, _decode_edit, _bad)
        values: dict[str, bytes | None] = dict.fromkeys(body.clear)
        try:
            for name, text in body.set_base64.items():
                values[name] = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise _bad(f"set_base64 holds text that is not base64: {error}") from error
        values.update((name, bytes(value)) for name, value in body.set.items())
        given = len(body.clear) + len(body.set_base64) + len(body.set)
        if given != len(values):
            raise _bad("a name is given twice")
        if not given and not body.replace:
            raise _bad("it changes nothing: give set, set_base64, clear or replace")
        edit = StateEdit(tuple(sorted(values.items())), body.replace, body.version)
        reply = await self._apply(service, key, edit)
        if reply is Reply.STALE:
            raise ConflictError(
                f"The state of {service}/{shown(key)} has changed: it has another version.",
                code="HF1270",
                hint=f"Read it again, and edit that: GET /holdfast/v1/state/{service}/KEY.",
            )
        is_queued = reply is Reply.QUEUED
        return json_response(
            {"status": "queued" if is_queued else "applied"}, 202 if is_queued else 200
        )

    async def replace(self, request: Request) -> Response:
        """Replace the whole state of an object key, as Restate's tools do."""
        [service] = request.params
        body = decode_body(request.body, _decode_replacement, _bad)
        entries = ((name, bytes(value)) for name, value in sorted(body.new_state.items()))
        await self._apply(service, body.object_key, StateEdit(tuple(entries), True, body.version))
        return Response(202, [], b"")

    async def _apply(self, service: str, key: str, edit: StateEdit) -> Reply:
        self._check_keyed(service, key)
        self._check_known(service)
        if not key:
            raise _bad("the key is empty")
        _check_sizes(edit.entries)
        reply = (await self._handle.edit_state(service, key, edit)).reply
        if reply is Reply.OVERLOADED:
            raise Refusal(
                429,
                "HF1429",
                f"Too many invocations wait for {service}/{shown(key)}.",
                hint="Try again in a moment.",
            )
        if reply is Reply.NOT_FOUND:
            raise ConflictError(
                f"Workflow {service}/{shown(key)} has no main invocation, so nothing would ever"
                " remove this state.",
                code="HF1258",
                hint="Start the workflow first. Entries may be cleared at any time.",
            )
        return reply

    def _check_keyed(self, name: str, key: str = "") -> None:
        service = next((s for s in self._handle.services() if s.name == name), None)
        if service is not None and service.kind is ServiceKind.SERVICE:
            found = f"; found key {shown(key)}" if key else ""
            raise Refusal(
                400,
                "HF1011",
                f"{name} is a plain service and has no keys{found}.",
                hint="Only objects and workflows have state.",
            )

    def _check_known(self, name: str) -> None:
        if all(service.name != name for service in self._handle.services()):
            # Raises, and names services that are spelled alike.
            self._handle.resolve(name, "")
            raise NotFoundError(f"There is no service {shown(name)}.", code="HF1001")


def _check_sizes(entries: Iterable[tuple[str, bytes | None]]) -> None:
    for name, value in entries:
        if len(name.encode()) > _NAME_BYTES_MAX:
            raise _bad(f"the name {shown(name)} has more than {_NAME_BYTES_MAX} bytes")
        if value is not None and len(value) > STATE_VALUE_BYTES_MAX:
            raise _bad(
                f"the value of {shown(name)} has {len(value)} bytes;"
                f" at most {STATE_VALUE_BYTES_MAX} fit"
            )


def _bad(reason: str) -> Refusal:
    return Refusal(
        400,
        "HF1271",
        f"This is no edit of state: {reason}.",
        hint='Send a JSON object such as {"set": {"count": 5}, "clear": ["old"]}.',
    )
