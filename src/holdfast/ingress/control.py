"""The routes under `/restate`: attach, output, lookup, awakeables, health, and explicit calls."""

from __future__ import annotations

from typing import Literal

import msgspec

from holdfast.domain.errors import NotFoundError
from holdfast.domain.identity import idempotent_id, workflow_id
from holdfast.domain.ids import IdError, parse_awakeable_id
from holdfast.domain.message import Failure, Signal, Value
from holdfast.domain.target import HandlerKind, ServiceKind, Target
from holdfast.engine.decision import Reply
from holdfast.ingress.body import read_body
from holdfast.ingress.head import Head, check_idempotency_key, no_scopes
from holdfast.ingress.invoke import invoke, run_takes_no_idempotency_key
from holdfast.ingress.json_check import check_json
from holdfast.ingress.outcome import OutputType, finished_response, output_type_of
from holdfast.ingress.path import check_key, find_row, found, no_route
from holdfast.ingress.problem import IngressRefusal
from holdfast.ingress.wait import wait_for_client
from holdfast.server.handle import ServerHandle
from holdfast.web.asgi import JSON_HEADER, Receive, Response
from holdfast.web.printed_id import bad_id, checked_invocation_id
from holdfast.web.problem import Refusal, method_refusal, shown


class _ById(msgspec.Struct, tag_field="target", tag="invocation", rename="camel"):
    invocation_id: str


class _ByWorkflow(msgspec.Struct, tag_field="target", tag="workflow", rename="camel"):
    workflow_name: str
    workflow_key: str
    scope: str | None = None


class _ByKey(msgspec.Struct, tag_field="target", tag="idempotentInvocation", rename="camel"):
    service: str
    handler: str
    idempotency_key: str
    key: str | None = None
    scope: str | None = None


_Body = _ById | _ByWorkflow | _ByKey

_encode = msgspec.json.Encoder().encode
_pointers: msgspec.json.Decoder[_Body] = msgspec.json.Decoder(_Body)

_Verb = Literal["attach", "output"]
_EXAMPLE = '{"target": "invocation", "invocationId": "inv_1…"}'


class _Pointer:
    """An invocation that a client points at, and its result's content type where it is known."""

    __slots__ = ("invocation_id", "output_type")

    def __init__(self, invocation_id: str, output_type: OutputType | None = None) -> None:
        self.invocation_id = invocation_id
        self.output_type = output_type


class Control:
    """Answers the routes under `/restate`."""

    def __init__(self, handle: ServerHandle) -> None:
        self._handle = handle

    async def respond(
        self, method: str, segments: list[str], head: Head, receive: Receive
    ) -> Response:
        """Answer a request; `segments` is its path without `restate`."""
        match segments:
            case ["call" | "send" as verb, *target]:
                _need(method, "GET", "POST")
                return await self._invoke(verb == "send", target, head, receive)
            case ["invocation", *target, "attach" | "output" as verb]:
                _need(method, "GET")
                return await self._tell(verb, self._at_path(target), receive)
            case ["workflow", workflow, key, "attach" | "output" as verb]:
                _need(method, "GET")
                return await self._tell(verb, self._at_workflow(workflow, key), receive)
            case ["attach" | "output" as verb, invocation_id]:
                _need(method, "GET")
                return await self._tell(verb, _at_id(invocation_id), receive)
            case ["attach" | "output" as verb]:
                _need(method, "POST")
                pointer = self._at(_decode_body(await self._read(head, receive)))
                return await self._tell(verb, pointer, receive)
            case ["lookup"]:
                _need(method, "POST")
                found_id = _look_up(_decode_body(await self._read(head, receive)))
                return Response(200, [JSON_HEADER], _encode({"invocationId": found_id}))
            case ["awakeables" | "a", awakeable_id, "resolve" | "reject" as verb]:
                _need(method, "POST")
                return await self._complete(awakeable_id, verb == "resolve", head, receive)
            case ["health"]:
                _need(method, "GET")
                names = [service.name for service in self._handle.services()]
                return Response(200, [JSON_HEADER], _encode({"services": names}))
            case ["scope", *_]:
                raise no_scopes("Scopes")
            case []:
                raise no_route("/restate")
            case _:
                raise no_route("/".join(["/restate", *segments]), 404)

    async def _read(self, head: Head, receive: Receive) -> bytes:
        return await read_body(receive, head.content_length, self._handle.body_size_bytes_max)

    async def _invoke(
        self, is_send: bool, target: list[str], head: Head, receive: Receive
    ) -> Response:
        match target:
            case [service, handler]:
                key = None
            case [service, key, handler]:
                pass
            case _:
                raise no_route("/".join(["/restate/send" if is_send else "/restate/call", *target]))
        there = found(self._handle, service, key, handler, is_send)
        return await invoke(self._handle, there, head, receive)

    # -- attach, output, lookup -------------------------------------------------------------------

    async def _tell(self, verb: _Verb, pointer: _Pointer, receive: Receive) -> Response:
        invocation_id = pointer.invocation_id
        if verb == "attach":
            try:
                finished = await wait_for_client(receive, self._handle.attach(invocation_id))
            except NotFoundError as error:
                # Clients retry what comes from the ingress; that nothing is there is final.
                raise IngressRefusal(
                    404, error.code, error.message, hint=error.hint, source="invocation"
                ) from None
        else:
            output = await self._handle.output(invocation_id)
            if output is None:
                raise Refusal(
                    470,
                    "HF1050",
                    f"Invocation {invocation_id} has not completed yet.",
                    hint="Ask again later, or use attach, which waits.",
                )
            finished = output
        output_type = pointer.output_type or await self._output_type(invocation_id)
        return finished_response(finished, output_type)

    async def _output_type(self, invocation_id: str) -> OutputType:
        row = await self._handle.invocation(invocation_id)
        if row is None:
            return OutputType()
        try:
            there = self._handle.resolve(row.target.service, row.target.handler)
        except NotFoundError:
            return OutputType()
        return output_type_of(there.manifest)

    def _at_path(self, target: list[str]) -> _Pointer:
        match target:
            case [invocation_id]:
                return _at_id(invocation_id)
            case [service, handler, idempotency_key]:
                return self._at_idempotency_key(service, None, handler, idempotency_key)
            case [service, key, handler, idempotency_key]:
                return self._at_idempotency_key(service, key, handler, idempotency_key)
            case _:
                raise no_route("/".join(["/restate/invocation", *target, "…"]))

    def _at_idempotency_key(
        self, service: str, key: str | None, handler: str, idempotency_key: str
    ) -> _Pointer:
        manifest = find_row(self._handle, service, key, handler).manifest
        check_idempotency_key(idempotency_key)
        if manifest.kind is HandlerKind.WORKFLOW:
            raise run_takes_no_idempotency_key(service, handler)
        target = Target(service, handler, key)
        return _Pointer(idempotent_id(target, idempotency_key), output_type_of(manifest))

    def _at_workflow(self, workflow: str, key: str) -> _Pointer:
        service = next((s for s in self._handle.services() if s.name == workflow), None)
        if service is None:
            # Raises, and names services that are spelled alike.
            self._handle.resolve(workflow, "run")
        if service is None or service.kind is not ServiceKind.WORKFLOW:
            raise Refusal(
                400,
                "HF1042",
                f"{shown(workflow)} is not a workflow.",
                hint="Use /restate/invocation/{id}/attach, or the form with an idempotency key.",
            )
        check_key(key, workflow)
        run = next((h for h in service.handlers if h.kind is HandlerKind.WORKFLOW), None)
        output_type = OutputType() if run is None else output_type_of(run)
        return _Pointer(workflow_id(workflow, key), output_type)

    def _at(self, pointer: _Body) -> _Pointer:
        if isinstance(pointer, _ById):
            return _at_id(pointer.invocation_id)
        if isinstance(pointer, _ByWorkflow):
            return self._at_workflow(pointer.workflow_name, pointer.workflow_key)
        return self._at_idempotency_key(
            pointer.service, pointer.key, pointer.handler, pointer.idempotency_key
        )

    # -- awakeables -------------------------------------------------------------------------------

    async def _complete(
        self, awakeable_id: str, is_resolve: bool, head: Head, receive: Receive
    ) -> Response:
        try:
            invocation_id, index = parse_awakeable_id(awakeable_id)
        except IdError:
            raise bad_id("an awakeable", awakeable_id, "sign_1 and 38 more characters") from None
        body = await self._read(head, receive)
        text = "" if is_resolve else body.decode(errors="replace")
        result = Value(body) if is_resolve else Failure(500, text)
        answer = await self._handle.signal(invocation_id, Signal(result, index=index))
        if answer.reply is Reply.OVERLOADED:
            raise Refusal(
                429,
                "HF1429",
                f"The server cannot take a signal for {invocation_id} now: a queue is full.",
                hint="Try again in a moment.",
            )
        if answer.reply is Reply.UNSUPPORTED:
            raise Refusal(
                409,
                "HF1416",
                f"{awakeable_id} is an approval: it takes decisions, not any value.",
                hint=f"Use its link, or: holdfast approvals approve {awakeable_id}",
            )
        # Any other answer will do: the first completion wins, and later ones are harmless.
        return Response(202, [], b"")


def _need(method: str, *allowed: str) -> None:
    if method not in allowed:
        raise method_refusal(method, ", ".join([*allowed, "OPTIONS"]))


def _decode_body(body: bytes) -> _Body:
    check_json(body)
    try:
        pointer = _pointers.decode(body)
    except msgspec.ValidationError as error:
        raise Refusal(
            400,
            "HF1051",
            f"The body does not point at an invocation: {error}.",
            hint=f"Send for example {_EXAMPLE}",
        ) from None
    if not isinstance(pointer, _ById) and pointer.scope is not None:
        raise no_scopes("Scopes")
    return pointer


def _look_up(pointer: _Body) -> str:
    """Return the id of an invocation. Whether it exists, or its service does, is not looked at."""
    match pointer:
        case _ById(invocation_id=invocation_id):
            return checked_invocation_id(invocation_id)
        case _ByWorkflow(workflow_name=name, workflow_key=key):
            check_key(key, name)
            return workflow_id(name, key)
        case _ByKey(service=service, key=key, handler=handler, idempotency_key=idempotency_key):
            check_idempotency_key(idempotency_key)
            if key is not None:
                check_key(key, service)
            return idempotent_id(Target(service, handler, key), idempotency_key)


def _at_id(invocation_id: str) -> _Pointer:
    return _Pointer(checked_invocation_id(invocation_id))
