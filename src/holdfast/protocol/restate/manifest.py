"""Discovery manifests: JSON of versions 1 to 4 to our values and back.

All versions are read with one strict schema, as Restate does: a field that is not in it is an
error. Options of a service are the defaults of its handlers. In our values they are merged: each
handler has all of its own, and what neither says has our default.

What the JSON cannot say is not sent: `invocation_timeout_ms`, `concurrency`, and the longest
duration of a retry schedule.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, cast

import msgspec

from holdfast.domain.message import TIME_MS_MAX
from holdfast.domain.retry import OnMaxAttempts, RetrySchedule
from holdfast.domain.target import (
    HandlerKind,
    HandlerManifest,
    Manifest,
    ServiceKind,
    ServiceManifest,
)
from holdfast.protocol.restate.discovery import DiscoveryError, check_manifest_media_type
from holdfast.protocol.restate.limit import SCHEMA_DEPTH_MAX
from holdfast.protocol.restate.version import VERSION_MAX, VERSION_MIN, agree_on_version

T = TypeVar("T")

_UNLIMITED = 2**31 - 1
"""Number of attempts that means: without limit. Leaving it out would mean the server's default."""

_Milliseconds = Annotated[int, msgspec.Meta(ge=0)]
_ProtocolVersion = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
_ServiceName = Annotated[
    str, msgspec.Meta(pattern=r"^([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9._-]*\Z", max_length=1000)
]
_HandlerName = Annotated[
    str, msgspec.Meta(pattern=r"^([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9_]*\Z", max_length=1000)
]


class _Strict(
    msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True
):
    """An object of the manifest."""


class _Options(_Strict, kw_only=True):
    documentation: str | None = None
    metadata: dict[str, str] | None = None
    inactivity_timeout: _Milliseconds | None = None
    abort_timeout: _Milliseconds | None = None
    journal_retention: _Milliseconds | None = None
    idempotency_retention: _Milliseconds | None = None
    enable_lazy_state: bool | None = None
    ingress_private: bool | None = None
    retry_policy_initial_interval: _Milliseconds | None = None
    retry_policy_max_interval: _Milliseconds | None = None
    retry_policy_max_attempts: Annotated[int, msgspec.Meta(ge=0)] | None = None
    retry_policy_exponentiation_factor: float | None = None
    retry_policy_on_max_attempts: Literal["PAUSE", "KILL"] | None = None


class _Input(_Strict, kw_only=True):
    required: bool | None = None
    content_type: str | None = None
    json_schema: dict[str, Any] | bool | None = None


class _Output(_Strict, kw_only=True):
    content_type: str | None = None
    set_content_type_if_empty: bool | None = None
    json_schema: dict[str, Any] | bool | None = None


class _Handler(_Options, kw_only=True):
    name: _HandlerName
    ty: Literal["EXCLUSIVE", "SHARED", "WORKFLOW"] | None = None
    input: _Input | None = None
    output: _Output | None = None
    workflow_completion_retention: _Milliseconds | None = None


class _Service(_Options, kw_only=True):
    name: _ServiceName
    ty: Literal["SERVICE", "VIRTUAL_OBJECT", "WORKFLOW"]
    handlers: list[_Handler]


class _Endpoint(_Strict, kw_only=True):
    protocol_mode: Literal["BIDI_STREAM", "REQUEST_RESPONSE"] | None = None
    min_protocol_version: _ProtocolVersion
    max_protocol_version: _ProtocolVersion
    lambda_compression: Literal["zstd"] | None = None
    services: list[_Service]


class Discovered(NamedTuple):
    """What an endpoint says about itself."""

    manifest: Manifest
    is_bidirectional: bool
    """Over the connection on which it was asked."""
    protocol_version_min: int
    protocol_version_max: int


_decoder = msgspec.json.Decoder(_Endpoint)


# -- decode ---------------------------------------------------------------------------------------


def decode_manifest(
    body: bytes, content_type: str | None, own_version_max: int = VERSION_MAX
) -> Discovered:
    """Decode the answer to a discovery request.

    Args:
        body: Whole body of the response.
        content_type: Value of its header; None when there is none.
        own_version_max: Highest version of the service protocol that is spoken here.

    Raises:
        DiscoveryError: HF1325 no common protocol version, HF1326 not a manifest, HF1327 not
            decodable, HF1328 a reserved name, HF1329 options that contradict each other.
    """
    check_manifest_media_type(content_type)
    try:
        endpoint = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DiscoveryError(
            f"The manifest of the endpoint cannot be decoded: {error}",
            code="HF1327",
            hint="Every version of the manifest is read strictly: a field that is not part of it "
            "is an error.",
        ) from error
    if endpoint.protocol_mode is None:
        raise DiscoveryError(
            "The manifest of the endpoint has no protocolMode",
            code="HF1326",
            restate_code="META0013",
            hint="Is the SDK older than the protocol?",
        )
    low, high = endpoint.min_protocol_version, endpoint.max_protocol_version
    if agree_on_version(low, high, own_version_max) is None:
        raise DiscoveryError(
            f"The endpoint's SDK speaks versions {low} to {high} of the service protocol, this "
            f"server {VERSION_MIN} to {own_version_max}",
            code="HF1325",
            restate_code="META0012",
            hint="Use another version of the SDK.",
        )
    # The last of two services, or handlers, of one name wins.
    services = {service.name: _service(service) for service in endpoint.services}
    return Discovered(
        Manifest(services=tuple(services.values())),
        endpoint.protocol_mode == "BIDI_STREAM",
        low,
        high,
    )


def _service(service: _Service) -> ServiceManifest:
    if service.name.lower() == "openapi" or service.name.lower().startswith("restate"):
        raise DiscoveryError(
            f"No service can be named {service.name!r}: openapi and restate… are reserved",
            code="HF1328",
            restate_code="META0005",
            status=400,
            hint="Give the service another name.",
        )
    handlers = {handler.name: _handler(service, handler) for handler in service.handlers}
    return ServiceManifest(
        name=service.name,
        kind=ServiceKind[service.ty],
        handlers=tuple(handlers.values()),
        documentation=service.documentation or "",
        metadata=service.metadata or {},
    )


_HANDLER_KINDS: dict[tuple[str, str | None], HandlerKind] = {
    ("SERVICE", None): HandlerKind.PLAIN,
    ("SERVICE", "SHARED"): HandlerKind.PLAIN,
    ("VIRTUAL_OBJECT", None): HandlerKind.EXCLUSIVE,
    ("VIRTUAL_OBJECT", "EXCLUSIVE"): HandlerKind.EXCLUSIVE,
    ("VIRTUAL_OBJECT", "SHARED"): HandlerKind.SHARED,
    ("WORKFLOW", None): HandlerKind.SHARED,
    ("WORKFLOW", "SHARED"): HandlerKind.SHARED,
    ("WORKFLOW", "WORKFLOW"): HandlerKind.WORKFLOW,
}
"""By type of the service and of the handler. Other pairs make no sense."""


def _handler(service: _Service, handler: _Handler) -> HandlerManifest:
    where = f"Handler {service.name}/{handler.name}"
    kind = _HANDLER_KINDS.get((service.ty, handler.ty))
    if kind is None:
        raise _refused(f"{where}: a {service.ty} has no handlers of type {handler.ty}")
    if kind is not HandlerKind.WORKFLOW and handler.workflow_completion_retention is not None:
        raise _refused(f"{where}: workflowCompletionRetention is for a workflow's main handler")
    if kind is HandlerKind.WORKFLOW and handler.idempotency_retention is not None:
        raise _refused(f"{where}: a workflow's main handler has no idempotencyRetention")
    if service.ingress_private and handler.ingress_private is False:
        raise _refused(f"{where}: it cannot be public in a private service")
    input_type, is_required, input_schema = _input(where, handler.input)
    output_type, output_schema = _output(where, handler.output)
    own, all_of = handler, service
    day, inactivity, abort = _DEFAULT_DAY, _DEFAULT.inactivity_timeout_ms, _DEFAULT.abort_timeout_ms
    return HandlerManifest(
        name=handler.name,
        kind=kind,
        input_content_type=input_type,
        is_input_required=is_required,
        output_content_type=output_type,
        input_schema=input_schema,
        output_schema=output_schema,
        documentation=handler.documentation or "",
        retry=_retry(own, all_of),
        journal_retention_ms=_ms(own.journal_retention, all_of.journal_retention, day),
        idempotency_retention_ms=_ms(own.idempotency_retention, all_of.idempotency_retention, day),
        workflow_retention_ms=_ms(own.workflow_completion_retention, None, day),
        inactivity_timeout_ms=_ms(own.inactivity_timeout, all_of.inactivity_timeout, inactivity),
        abort_timeout_ms=_ms(own.abort_timeout, all_of.abort_timeout, abort),
        is_private=bool(_first(own.ingress_private, all_of.ingress_private)),
        is_state_lazy=bool(_first(own.enable_lazy_state, all_of.enable_lazy_state)),
        metadata=handler.metadata or {},
        is_empty_output_typed=bool(handler.output and handler.output.set_content_type_if_empty),
        own_options=_own_options(handler),
    )


def _own_options(handler: _Handler) -> tuple[str, ...]:
    said = {
        "is_private": handler.ingress_private,
        "journal_retention_ms": handler.journal_retention,
        "idempotency_retention_ms": handler.idempotency_retention,
        "workflow_retention_ms": handler.workflow_completion_retention,
        "inactivity_timeout_ms": handler.inactivity_timeout,
        "abort_timeout_ms": handler.abort_timeout,
    }
    return tuple(name for name, value in said.items() if value is not None)


_DEFAULT = HandlerManifest(name="default", kind=HandlerKind.PLAIN)
_DEFAULT_DAY = _DEFAULT.journal_retention_ms


def _first(own: T | None, of_service: T | None) -> T | None:
    return of_service if own is None else own


def _ms(own: int | None, of_service: int | None, default: int) -> int:
    found = _first(own, of_service)
    return default if found is None else min(found, TIME_MS_MAX)


def _retry(own: _Handler, of_service: _Service) -> RetrySchedule | None:
    initial = _first(own.retry_policy_initial_interval, of_service.retry_policy_initial_interval)
    longest = _first(own.retry_policy_max_interval, of_service.retry_policy_max_interval)
    attempts = _first(own.retry_policy_max_attempts, of_service.retry_policy_max_attempts)
    factor = _first(
        own.retry_policy_exponentiation_factor, of_service.retry_policy_exponentiation_factor
    )
    ending = _first(own.retry_policy_on_max_attempts, of_service.retry_policy_on_max_attempts)
    if all(option is None for option in (initial, longest, attempts, factor, ending)):
        return None
    default = RetrySchedule()
    if attempts is None:
        attempts_max = default.max_attempts
    else:
        attempts_max = None if attempts >= _UNLIMITED else max(attempts, 1)
    return RetrySchedule(
        initial_interval_ms=_ms(initial, None, default.initial_interval_ms),
        # A factor below 1 would shrink the waits, down to a busy loop.
        factor=default.factor if factor is None else min(max(factor, 1.0), 1e6),
        max_interval_ms=_ms(longest, None, default.max_interval_ms),
        max_attempts=attempts_max,
        on_max_attempts=OnMaxAttempts[ending] if ending else default.on_max_attempts,
    )


_MEDIA_TYPE = re.compile(r"[!#-'*+.^_`|~0-9A-Za-z-]+/[!#-'*+.^_`|~0-9A-Za-z-]+(;[ -~]*)?")


def _input(where: str, found: _Input | None) -> tuple[str, bool, dict[str, object] | None]:
    """Return content type (empty: takes nothing), whether it is required, and schema."""
    if found is None:
        return "*/*", False, None
    schema = _schema(where, found.json_schema)
    required = bool(found.required)
    if found.content_type is None:
        # Restate takes a schema without a content type for no input, too.
        return ("*/*" if required else ""), required, schema
    content_type = found.content_type.partition(";")[0].strip()
    is_half_wild = content_type.startswith("*/") and content_type != "*/*"
    if is_half_wild or not _MEDIA_TYPE.fullmatch(content_type):
        raise _refused(f"{where}: the input cannot have content type {found.content_type!r}")
    return content_type, required, schema


def _output(where: str, found: _Output | None) -> tuple[str, dict[str, object] | None]:
    """Return content type (empty: no header) and schema."""
    if found is None:
        return "application/json", None
    schema = _schema(where, found.json_schema)
    if found.content_type is None:
        return "", schema
    # It becomes a header of HTTP responses, so nothing else may be in it.
    if not _MEDIA_TYPE.fullmatch(found.content_type):
        raise _refused(f"{where}: the output cannot have content type {found.content_type!r}")
    return found.content_type, schema


def _schema(where: str, schema: dict[str, Any] | bool | None) -> dict[str, object] | None:
    if schema is None:
        return None
    if isinstance(schema, bool):
        # The two schemas without members have twins with them.
        return {} if schema else {"not": {}}
    left: list[tuple[object, int]] = [(schema, 0)]
    while left:
        node, depth = left.pop()
        if depth > SCHEMA_DEPTH_MAX:
            raise _refused(f"{where}: the JSON schema is nested deeper than {SCHEMA_DEPTH_MAX}")
        if isinstance(node, dict):
            members = cast("dict[str, object]", node)
            reference = members.get("$ref")
            if isinstance(reference, str) and not reference.startswith("#"):
                raise _refused(f"{where}: the JSON schema refers to {reference!r}, outside of it")
            left.extend((member, depth + 1) for member in members.values())
        elif isinstance(node, list):
            left.extend((member, depth + 1) for member in cast("list[object]", node))
        elif isinstance(node, int) and not -(2**63) <= node < 2**64:
            raise _refused(f"{where}: the JSON schema has a number of more than 64 bits")
    return schema


def _refused(message: str) -> DiscoveryError:
    return DiscoveryError(
        message, code="HF1329", status=400, hint="Change the definition of the service."
    )


# -- encode ---------------------------------------------------------------------------------------


def encode_manifest(
    manifest: Manifest,
    manifest_version: int,
    *,
    is_bidirectional: bool,
    protocol_version_max: int = VERSION_MAX,
) -> bytes:
    """Encode what an endpoint answers to a discovery request.

    Options that have their default are left out, so that the settings of the server hold for them.

    Args:
        manifest: Of the endpoint.
        manifest_version: 1 to 4; what a version does not have is left out.
        is_bidirectional: Whether requests and responses of this connection overlap.
        protocol_version_max: Highest version of the service protocol that is spoken here.
    """
    endpoint = _Endpoint(
        protocol_mode="BIDI_STREAM" if is_bidirectional else "REQUEST_RESPONSE",
        min_protocol_version=VERSION_MIN,
        max_protocol_version=protocol_version_max,
        services=[_wire_service(service, manifest_version) for service in manifest.services],
    )
    return msgspec.json.encode(endpoint)


def _wire_service(service: ServiceManifest, version: int) -> _Service:
    wire = _Service(
        name=service.name,
        ty=_SERVICE_TYPES[service.kind],
        handlers=[_wire_handler(handler, version) for handler in service.handlers],
    )
    if version >= 2:
        wire.documentation = service.documentation or None
        wire.metadata = service.metadata or None
    if version >= 3:
        _add_options(wire, service)
    return wire


_SERVICE_TYPES: dict[ServiceKind, Literal["SERVICE", "VIRTUAL_OBJECT", "WORKFLOW"]] = {
    ServiceKind.SERVICE: "SERVICE",
    ServiceKind.VIRTUAL_OBJECT: "VIRTUAL_OBJECT",
    ServiceKind.WORKFLOW: "WORKFLOW",
}
_HANDLER_TYPES: dict[HandlerKind, Literal["EXCLUSIVE", "SHARED", "WORKFLOW"] | None] = {
    HandlerKind.PLAIN: None,
    HandlerKind.EXCLUSIVE: "EXCLUSIVE",
    HandlerKind.SHARED: "SHARED",
    HandlerKind.WORKFLOW: "WORKFLOW",
}


def _wire_handler(handler: HandlerManifest, version: int) -> _Handler:
    wire = _Handler(name=handler.name, ty=_HANDLER_TYPES[handler.kind])
    wire.input = _Input(json_schema=handler.input_schema)
    if handler.input_content_type:
        wire.input.required = handler.is_input_required
        wire.input.content_type = handler.input_content_type
    wire.output = _Output(json_schema=handler.output_schema)
    if handler.output_content_type:
        wire.output.set_content_type_if_empty = handler.is_empty_output_typed
        wire.output.content_type = handler.output_content_type
    if version >= 2:
        wire.documentation = handler.documentation or None
        wire.metadata = handler.metadata or None
    if version >= 3:
        wire.enable_lazy_state = handler.is_state_lazy or None
        wire.ingress_private = handler.is_private or None
        if handler.kind is HandlerKind.WORKFLOW:
            wire.workflow_completion_retention = _changed(handler, "workflow_retention_ms")
    if version >= 4 and handler.retry is not None:
        retry = handler.retry
        wire.retry_policy_initial_interval = retry.initial_interval_ms
        wire.retry_policy_max_interval = retry.max_interval_ms
        wire.retry_policy_exponentiation_factor = retry.factor
        wire.retry_policy_max_attempts = (
            _UNLIMITED if retry.max_attempts is None else retry.max_attempts
        )
        wire.retry_policy_on_max_attempts = (
            "PAUSE" if retry.on_max_attempts is OnMaxAttempts.PAUSE else "KILL"
        )
    return wire


_LEVELLED = (
    "inactivity_timeout",
    "abort_timeout",
    "journal_retention",
    "idempotency_retention",
)
"""Options that a service can have for its handlers, as they are called on the wire."""


def _add_options(wire: _Service, service: ServiceManifest) -> None:
    """Say each option where it was said: operators can change those of a service, not of handlers.

    What handlers have from their service is said once. A workflow's main handler has no idempotency
    retention, so there each of the others has its own.
    """
    for option in _LEVELLED:
        name = f"{option}_ms"
        is_levelled = not (option == "idempotency_retention" and wire.ty == "WORKFLOW")
        of_all = next(
            (h for h in service.handlers if is_levelled and name not in h.own_options), _DEFAULT
        )
        setattr(wire, option, _changed(of_all, name))
        for handler, its_wire in zip(service.handlers, wire.handlers, strict=True):
            is_own = is_levelled and name in handler.own_options
            is_main = handler.kind is HandlerKind.WORKFLOW and not is_levelled
            if (is_own or getattr(handler, name) != getattr(of_all, name)) and not is_main:
                setattr(its_wire, option, getattr(handler, name))


def _changed(handler: HandlerManifest, name: str) -> int | None:
    value: int = getattr(handler, name)
    return None if value == getattr(_DEFAULT, name) else value
