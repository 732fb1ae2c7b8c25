from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from holdfast.domain.message import TIME_MS_MAX
from holdfast.domain.retry import OnMaxAttempts, RetrySchedule
from holdfast.domain.target import (
    HandlerKind,
    HandlerManifest,
    Manifest,
    ServiceKind,
    ServiceManifest,
)
from holdfast.protocol.restate.discovery import DiscoveryError, manifest_media_type
from holdfast.protocol.restate.manifest import Discovered, decode_manifest, encode_manifest

V4 = manifest_media_type(4)
DAY_MS = 86_400_000


def endpoint(*services: dict[str, Any], **fields: Any) -> bytes:
    shown: dict[str, Any] = {
        "protocolMode": "BIDI_STREAM",
        "minProtocolVersion": 5,
        "maxProtocolVersion": 7,
        "services": list(services),
    }
    shown.update(fields)
    return json.dumps({k: v for k, v in shown.items() if v is not ...}).encode()


def service(*handlers: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": "S", "ty": "SERVICE", "handlers": list(handlers), **fields}


def decode(*services: dict[str, Any], **fields: Any) -> Discovered:
    return decode_manifest(endpoint(*services, **fields), V4)


def decode_handler(handler: dict[str, Any], **fields: Any) -> HandlerManifest:
    found = decode(service({"name": "h", **handler}, **fields))
    return found.manifest.services[0].handlers[0]


SAMPLE = """
{"protocolMode":"BIDI_STREAM","minProtocolVersion":5,"maxProtocolVersion":6,
 "services":[
  {"name":"Cart","ty":"VIRTUAL_OBJECT","metadata":{"team":"shop"},"inactivityTimeout":30000,
   "handlers":[
    {"name":"add","ty":"EXCLUSIVE",
     "input":{"required":true,"contentType":"application/json","jsonSchema":{"type":"object"}},
     "output":{"setContentTypeIfEmpty":false,"contentType":"application/json"}},
    {"name":"total","ty":"SHARED","input":{},
     "output":{"contentType":"application/json","setContentTypeIfEmpty":false}}]}]}
"""


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_a_manifest_is_decoded(version: int) -> None:
    cart = ServiceManifest(
        name="Cart",
        kind=ServiceKind.VIRTUAL_OBJECT,
        metadata={"team": "shop"},
        handlers=(
            HandlerManifest(
                name="add",
                kind=HandlerKind.EXCLUSIVE,
                input_schema={"type": "object"},
                inactivity_timeout_ms=30_000,
            ),
            HandlerManifest(
                name="total",
                kind=HandlerKind.SHARED,
                input_content_type="",
                is_input_required=False,
                inactivity_timeout_ms=30_000,
            ),
        ),
    )
    found = decode_manifest(SAMPLE.encode(), manifest_media_type(version))
    assert found == Discovered(Manifest(services=(cart,)), True, 5, 6)


def test_request_response_is_not_bidirectional() -> None:
    assert not decode(service(), protocolMode="REQUEST_RESPONSE").is_bidirectional


# -- what handlers are ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of_service", "of_handler", "kind"),
    [
        ("SERVICE", None, HandlerKind.PLAIN),
        ("SERVICE", "SHARED", HandlerKind.PLAIN),
        ("VIRTUAL_OBJECT", None, HandlerKind.EXCLUSIVE),
        ("VIRTUAL_OBJECT", "SHARED", HandlerKind.SHARED),
        ("VIRTUAL_OBJECT", "EXCLUSIVE", HandlerKind.EXCLUSIVE),
        # Not the main handler, as one could think.
        ("WORKFLOW", None, HandlerKind.SHARED),
        ("WORKFLOW", "SHARED", HandlerKind.SHARED),
        ("WORKFLOW", "WORKFLOW", HandlerKind.WORKFLOW),
    ],
)
def test_kinds_follow_from_both_types(
    of_service: str, of_handler: str | None, kind: HandlerKind
) -> None:
    assert decode_handler({"ty": of_handler}, ty=of_service).kind is kind


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("*/*", False, None)),
        ({"input": {}}, ("", False, None)),
        ({"input": {"required": False}}, ("", False, None)),
        ({"input": {"required": True}}, ("*/*", True, None)),
        ({"input": {"contentType": "text/plain"}}, ("text/plain", False, None)),
        ({"input": {"contentType": "text/*", "required": True}}, ("text/*", True, None)),
        ({"input": {"contentType": "text/plain; charset=utf-8"}}, ("text/plain", False, None)),
        ({"input": {"contentType": "*/*", "jsonSchema": True}}, ("*/*", False, {})),
        ({"input": {"jsonSchema": True}}, ("", False, {})),
        ({"input": {"contentType": "*/*", "jsonSchema": False}}, ("*/*", False, {"not": {}})),
    ],
)
def test_inputs(given: dict[str, Any], expected: tuple[str, bool, Any]) -> None:
    found = decode_handler(given)
    assert (found.input_content_type, found.is_input_required, found.input_schema) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("application/json", None)),
        ({"output": {}}, ("", None)),
        ({"output": {"setContentTypeIfEmpty": True}}, ("", None)),
        ({"output": {"contentType": "a/b; charset=utf-8"}}, ("a/b; charset=utf-8", None)),
        ({"output": {"contentType": "a/b", "jsonSchema": {"a": 1}}}, ("a/b", {"a": 1})),
    ],
)
def test_outputs(given: dict[str, Any], expected: tuple[str, Any]) -> None:
    found = decode_handler(given)
    assert (found.output_content_type, found.output_schema) == expected


def test_options_of_the_service_hold_for_handlers_that_have_none() -> None:
    options = {
        "inactivityTimeout": 1,
        "abortTimeout": 2,
        "journalRetention": 3,
        "idempotencyRetention": 4,
        "enableLazyState": True,
        "ingressPrivate": True,
    }
    inherited = decode_handler({}, **options)
    assert inherited.inactivity_timeout_ms == 1
    assert inherited.abort_timeout_ms == 2
    assert inherited.journal_retention_ms == 3
    assert inherited.idempotency_retention_ms == 4
    assert inherited.is_state_lazy
    assert inherited.is_private
    own = decode_handler({"inactivityTimeout": 0, "enableLazyState": False}, **options)
    assert own.inactivity_timeout_ms == 0
    assert not own.is_state_lazy
    default = decode_handler({})
    assert default.inactivity_timeout_ms == 60_000
    assert default.journal_retention_ms == DAY_MS


def test_retry_policies_are_merged_field_by_field() -> None:
    found = decode_handler(
        {"retryPolicyMaxAttempts": 3, "retryPolicyOnMaxAttempts": "KILL"},
        retryPolicyMaxAttempts=9,
        retryPolicyInitialInterval=10,
        retryPolicyExponentiationFactor=3,
    )
    assert found.retry == RetrySchedule(10, 3.0, 60_000, 3, OnMaxAttempts.KILL)
    assert decode_handler({}).retry is None


def test_policies_that_would_be_busy_loops_are_bounded() -> None:
    found = decode_handler({"retryPolicyExponentiationFactor": 0.1, "retryPolicyMaxAttempts": 0})
    assert found.retry == RetrySchedule(factor=1.0, max_attempts=1)


def test_durations_beyond_the_calendar_are_bounded() -> None:
    found = decode_handler({"journalRetention": 2**64 - 1, "abortTimeout": 10**40})
    assert found.journal_retention_ms == found.abort_timeout_ms == TIME_MS_MAX


def test_the_last_of_one_name_wins() -> None:
    found = decode(
        service({"name": "a"}),
        service({"name": "b", "documentation": "1"}, {"name": "b", "documentation": "2"}),
    )
    (only,) = found.manifest.services
    assert [(handler.name, handler.documentation) for handler in only.handlers] == [("b", "2")]


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"[]", "got `array`"),
        (b"\xff", "malformed"),
        (b'{"a":' * 5000, "unknown field"),
        (endpoint(extra=1), "unknown field `extra`"),
        (endpoint(service(extra=1)), "unknown field `extra` - at `\\$.services"),
        (endpoint(service({"name": "h", "extra": 1})), "unknown field `extra`"),
        (endpoint(service({"name": "h", "input": {"extra": 1}})), "unknown field `extra`"),
        (endpoint(service({"name": "h", "output": {"extra": 1}})), "unknown field `extra`"),
        (endpoint(service({"name": "h", "eagerStateKeysWhitelist": []})), "unknown field"),
        (endpoint(services=...), "missing required field `services`"),
        (endpoint(minProtocolVersion=0), ">= 1"),
        (endpoint(maxProtocolVersion=2**31), "<= 2147483647"),
        (endpoint(protocolMode="PIGEON"), "Invalid enum value 'PIGEON'"),
        (endpoint(lambdaCompression="lzma"), "Invalid enum value 'lzma'"),
        (endpoint(service(ty="THING")), "Invalid enum value 'THING'"),
        (endpoint(service(name="")), "matching regex"),
        (endpoint(service(name="_")), "matching regex"),
        (endpoint(service(name="a/b")), "matching regex"),
        (endpoint(service(name="a\n")), "matching regex"),
        (endpoint(service({"name": "a.b"})), "matching regex"),
        (endpoint(service({"name": "h", "inactivityTimeout": -1})), ">= 0"),
        (endpoint(service({"name": "h", "inactivityTimeout": 1.5})), "got `float`"),
        (endpoint(service(metadata={"a": 1})), "Expected `str`"),
    ],
)
def test_what_does_not_decode_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(DiscoveryError, match=why) as caught:
        decode_manifest(body, V4)
    assert (caught.value.code, caught.value.restate_code) == ("HF1327", None)
    assert caught.value.status == 500


def test_json_that_is_nested_too_deep_is_refused() -> None:
    schema = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    body = endpoint(service({"name": "h", "input": {"jsonSchema": {"x": 1}}})).replace(
        b'{"x": 1}', schema
    )
    with pytest.raises(DiscoveryError, match="recursion") as caught:
        decode_manifest(body, V4)
    assert caught.value.code == "HF1327"


def test_without_a_mode_the_endpoint_cannot_be_called() -> None:
    with pytest.raises(DiscoveryError, match="no protocolMode") as caught:
        decode(service(), protocolMode=...)
    assert (caught.value.code, caught.value.restate_code) == ("HF1326", "META0013")


def test_another_content_type_is_no_manifest() -> None:
    with pytest.raises(DiscoveryError, match="'text/html'") as caught:
        decode_manifest(endpoint(), "text/html")
    assert (caught.value.code, caught.value.restate_code) == ("HF1326", "META0013")


@pytest.mark.parametrize(("low", "high"), [(1, 4), (8, 9), (6, 5)])
def test_versions_must_overlap(low: int, high: int) -> None:
    with pytest.raises(DiscoveryError, match=f"{low} to {high}.*this server 5 to 7") as caught:
        decode(service(), minProtocolVersion=low, maxProtocolVersion=high)
    assert (caught.value.code, caught.value.restate_code) == ("HF1325", "META0012")


@pytest.mark.parametrize("name", ["openapi", "OpenAPI", "restate", "RestateThing"])
def test_reserved_names_are_refused(name: str) -> None:
    with pytest.raises(DiscoveryError, match=name) as caught:
        decode(service(name=name))
    assert (caught.value.code, caught.value.restate_code) == ("HF1328", "META0005")
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("handler", "of_service", "why"),
    [
        ({"ty": "EXCLUSIVE"}, {}, "a SERVICE has no handlers of type EXCLUSIVE"),
        ({"ty": "WORKFLOW"}, {}, "a SERVICE has no handlers of type WORKFLOW"),
        ({"ty": "WORKFLOW"}, {"ty": "VIRTUAL_OBJECT"}, "has no handlers of type WORKFLOW"),
        ({"ty": "EXCLUSIVE"}, {"ty": "WORKFLOW"}, "has no handlers of type EXCLUSIVE"),
        ({"workflowCompletionRetention": 1}, {}, "for a workflow's main handler"),
        (
            {"ty": "WORKFLOW", "idempotencyRetention": 1},
            {"ty": "WORKFLOW"},
            "has no idempotencyRetention",
        ),
        ({"ingressPrivate": False}, {"ingressPrivate": True}, "public in a private service"),
        ({"input": {"contentType": "json"}}, {}, "input cannot have content type 'json'"),
        ({"input": {"contentType": "*/json"}}, {}, "input cannot have content type"),
        ({"output": {"contentType": "a/b\r\nx: y"}}, {}, "output cannot have content type"),
        (
            {"input": {"jsonSchema": {"a": [{"$ref": "http://x/y"}]}}},
            {},
            "refers to 'http://x/y', outside of it",
        ),
        ({"output": {"jsonSchema": {"maximum": 2**64}}}, {}, "more than 64 bits"),
        ({"output": {"jsonSchema": json.loads("[" * 101 + "]" * 101)}}, {}, "Expected"),
        ({"output": {"jsonSchema": {"a": json.loads("[" * 101 + "]" * 101)}}}, {}, "deeper than"),
    ],
)
def test_definitions_that_make_no_sense_are_refused(
    handler: dict[str, Any], of_service: dict[str, Any], why: str
) -> None:
    with pytest.raises(DiscoveryError, match=why) as caught:
        decode_handler(handler, **of_service)
    if why != "Expected":
        assert (caught.value.code, caught.value.restate_code) == ("HF1329", None)
        assert caught.value.status == 400
        assert "Handler S/h: " in caught.value.message


def test_references_inside_of_the_schema_are_taken() -> None:
    schema = {"$ref": "#/$defs/a", "$defs": {"a": {"properties": {"$ref": {"type": "string"}}}}}
    assert decode_handler({"input": {"jsonSchema": schema}}).input_schema == schema


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda nodes: st.lists(nodes, max_size=3) | st.dictionaries(st.text(max_size=8), nodes),
    max_leaves=8,
)


@given(st.data())
def test_mutated_manifests_raise_one_error_only(data: st.DataObject) -> None:
    """One value anywhere is replaced; what still decodes can be stored."""
    shown = json.loads(SAMPLE)
    node = shown
    while True:
        choices = list(node) if isinstance(node, dict) else list(range(len(node)))
        choice = data.draw(st.sampled_from(choices))
        below = node[choice]
        if not isinstance(below, dict | list) or not below or data.draw(st.booleans()):
            break
        node = below
    node[choice] = data.draw(json_values)
    try:
        found = decode_manifest(json.dumps(shown).encode(), V4)
    except DiscoveryError:
        return
    msgspec.msgpack.encode(found.manifest)


@given(st.binary(max_size=60))
def test_bytes_without_sense_raise_one_error_only(body: bytes) -> None:
    with pytest.raises(DiscoveryError):
        decode_manifest(body, V4)


# -- what is sent ---------------------------------------------------------------------------------

schedules = st.builds(
    RetrySchedule,
    initial_interval_ms=st.integers(0, 10**6),
    factor=st.floats(1, 100),
    max_interval_ms=st.integers(0, 10**9),
    max_attempts=st.none() | st.integers(1, 1000),
    on_max_attempts=st.sampled_from(OnMaxAttempts),
)
durations = st.integers(0, TIME_MS_MAX)
labels = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2)
schemas = st.none() | st.sampled_from([{"type": "object"}, {}])


def handlers(*kinds: HandlerKind) -> Any:
    return st.sampled_from(kinds).flatmap(
        lambda kind: st.builds(
            HandlerManifest,
            name=st.sampled_from(["a", "b_1", "_c"]),
            kind=st.just(kind),
            input_content_type=st.sampled_from(["application/json", "*/*", "text/plain"]),
            is_input_required=st.booleans(),
            output_content_type=st.sampled_from(["application/json", "", "text/plain"]),
            input_schema=schemas,
            output_schema=schemas,
            documentation=st.text(max_size=10),
            retry=st.none() | schedules,
            journal_retention_ms=durations,
            idempotency_retention_ms=st.just(DAY_MS) if kind is HandlerKind.WORKFLOW else durations,
            workflow_retention_ms=durations if kind is HandlerKind.WORKFLOW else st.just(DAY_MS),
            inactivity_timeout_ms=durations,
            abort_timeout_ms=durations,
            is_private=st.booleans(),
            is_state_lazy=st.booleans(),
            metadata=labels,
        )
    )


def services(name: str, kind: ServiceKind, *kinds: HandlerKind) -> Any:
    return st.builds(
        ServiceManifest,
        name=st.just(name),
        kind=st.just(kind),
        handlers=st.lists(handlers(*kinds), max_size=3, unique_by=lambda h: h.name).map(tuple),
        documentation=st.text(max_size=10),
        metadata=labels,
    )


manifests = st.tuples(
    services("Svc", ServiceKind.SERVICE, HandlerKind.PLAIN),
    services("Obj", ServiceKind.VIRTUAL_OBJECT, HandlerKind.EXCLUSIVE, HandlerKind.SHARED),
    services("Wf.x-y", ServiceKind.WORKFLOW, HandlerKind.WORKFLOW, HandlerKind.SHARED),
).map(lambda found: Manifest(services=found))


@given(manifests, st.booleans())
def test_version_4_says_everything(manifest: Manifest, is_bidirectional: bool) -> None:
    body = encode_manifest(manifest, 4, is_bidirectional=is_bidirectional)
    found = decode_manifest(body, V4)
    assert found._replace(manifest=unowned(found.manifest)) == Discovered(
        manifest, is_bidirectional, 5, 7
    )


def unowned(manifest: Manifest) -> Manifest:
    """Forget who says an option: what handlers of a service have in common, it may say for all."""
    return Manifest(
        services=tuple(
            replace(service, handlers=tuple(replace(h, own_options=()) for h in service.handlers))
            for service in manifest.services
        )
    )


ALL_OPTIONS = Manifest(
    services=(
        ServiceManifest(
            name="S",
            kind=ServiceKind.VIRTUAL_OBJECT,
            documentation="d",
            metadata={"m": "x"},
            handlers=(
                HandlerManifest(
                    name="h",
                    kind=HandlerKind.EXCLUSIVE,
                    documentation="d",
                    metadata={"m": "x"},
                    inactivity_timeout_ms=1,
                    abort_timeout_ms=2,
                    journal_retention_ms=3,
                    idempotency_retention_ms=4,
                    is_private=True,
                    is_state_lazy=True,
                    retry=RetrySchedule(1, 2.0, 3, None),
                ),
            ),
        ),
    )
)
V1_NAMES = {"name", "ty", "input", "output"}
V2_NAMES = V1_NAMES | {"documentation", "metadata"}
V3_NAMES = V2_NAMES | {
    "inactivityTimeout",
    "abortTimeout",
    "journalRetention",
    "idempotencyRetention",
    "enableLazyState",
    "ingressPrivate",
}
V4_NAMES = V3_NAMES | {
    "retryPolicyInitialInterval",
    "retryPolicyMaxInterval",
    "retryPolicyMaxAttempts",
    "retryPolicyExponentiationFactor",
    "retryPolicyOnMaxAttempts",
}


@pytest.mark.parametrize(
    ("version", "names"), [(1, V1_NAMES), (2, V2_NAMES), (3, V3_NAMES), (4, V4_NAMES)]
)
def test_no_version_has_fields_of_later_ones(version: int, names: set[str]) -> None:
    shown = json.loads(encode_manifest(ALL_OPTIONS, version, is_bidirectional=False))
    service = shown["services"][0]
    assert set(service["handlers"][0]) | (set(service) - {"handlers"}) == names
    assert ("metadata" in shown["services"][0]) == (version >= 2)
    assert shown["protocolMode"] == "REQUEST_RESPONSE"
    assert (shown["minProtocolVersion"], shown["maxProtocolVersion"]) == (5, 7)


def test_each_option_is_said_by_who_said_it() -> None:
    first, second = (
        HandlerManifest(name=name, kind=HandlerKind.PLAIN, abort_timeout_ms=5) for name in "ab"
    )
    second = replace(second, inactivity_timeout_ms=60_000, own_options=("inactivity_timeout_ms",))
    service = ServiceManifest(name="S", kind=ServiceKind.SERVICE, handlers=(first, second))
    body = encode_manifest(Manifest(services=(service,)), 4, is_bidirectional=True)
    [shown] = json.loads(body)["services"]
    assert shown["abortTimeout"] == 5
    assert not {"abortTimeout", "inactivityTimeout"} & set(shown["handlers"][0])
    assert shown["handlers"][1]["inactivityTimeout"] == 60_000
    assert decode_manifest(body, V4).manifest == Manifest(services=(service,))


def test_what_has_its_default_is_left_to_the_server() -> None:
    plain = HandlerManifest(name="h", kind=HandlerKind.PLAIN, input_content_type="")
    manifest = Manifest(
        services=(ServiceManifest(name="S", kind=ServiceKind.SERVICE, handlers=(plain,)),)
    )
    shown = json.loads(encode_manifest(manifest, 4, is_bidirectional=True, protocol_version_max=7))
    assert shown == {
        "protocolMode": "BIDI_STREAM",
        "minProtocolVersion": 5,
        "maxProtocolVersion": 7,
        "services": [
            {
                "name": "S",
                "ty": "SERVICE",
                "handlers": [
                    {
                        "name": "h",
                        "input": {},
                        "output": {
                            "contentType": "application/json",
                            "setContentTypeIfEmpty": False,
                        },
                    }
                ],
            }
        ],
    }
