"""OpenAPI documents: of one service, as clients of the ingress see it, and of the admin API."""

from __future__ import annotations

import inspect
import re
from typing import cast

from holdfast.admin.route import Router
from holdfast.domain.target import HandlerKind, HandlerManifest, ServiceKind, ServiceManifest

Json = dict[str, object]

OPENAPI_VERSION = "3.1.0"

_NAMED = frozenset({"$defs", "definitions", "properties", "patternProperties", "dependentSchemas"})
"""Members of a schema whose own members are names, not keywords."""
_LITERAL = frozenset({"const", "default", "enum", "example", "examples"})
"""Members of a schema that hold values, not schemas."""


def view_openapi(service: ServiceManifest, revision: str, ingress_url: str) -> Json:
    """Describe the public handlers of a service.

    Args:
        service: What is described; `is_private` handlers are left out.
        revision: Becomes the version of the document.
        ingress_url: Where clients call.
    """
    paths: Json = {}
    schemas: Json = {"RestateError": _ERROR_SCHEMA}
    for handler in service.handlers:
        if handler.is_private:
            continue
        for suffix, schema in (
            ("Request", handler.input_schema),
            ("Response", handler.output_schema),
        ):
            if schema is not None:
                name = f"{handler.name}{suffix}"
                schemas[name] = _moved(schema, f"#/components/schemas/{name}")
        paths.update(_handler_paths(service, handler))
    info: Json = {"title": service.name, "version": revision}
    if service.documentation:
        info["description"] = service.documentation
    if service.metadata:
        info["x-restate-extensions"] = service.metadata
    return {
        "openapi": OPENAPI_VERSION,
        "info": info,
        "servers": [{"url": ingress_url.rstrip("/") + "/", "description": "Ingress"}],
        "paths": paths,
        "components": {
            "parameters": _PARAMETERS,
            "responses": _RESPONSES,
            "schemas": schemas,
        },
        "tags": [
            {"name": "Call", "description": "Call a handler and wait for the result"},
            {"name": "Send", "description": "Call a handler and do not wait"},
            {"name": "Attach", "description": "Wait for the result of an invocation"},
            {
                "name": "Get Output",
                "description": "Get the result of an invocation, if it is there",
            },
        ],
    }


def _handler_paths(service: ServiceManifest, handler: HandlerManifest) -> Json:
    is_keyed = service.kind is not ServiceKind.SERVICE
    is_run = handler.kind is HandlerKind.WORKFLOW
    key = [_parameter("key")] if is_keyed else []
    target = f"{service.name}{'/{key}' if is_keyed else ''}"
    asked = [*key, *([] if is_run else [_parameter("idempotencyKeyHeader")])]
    paths: Json = {
        f"/restate/call/{target}/{handler.name}": {
            "post": {
                **_operation(handler, "Call", f"Call {service.name}/{handler.name} and wait"),
                **({"parameters": asked} if asked else {}),
                **_request_body(handler),
                "responses": {"200": _result(handler), **_OTHERWISE},
            }
        },
        f"/restate/send/{target}/{handler.name}": {
            "post": {
                **_operation(handler, "Send", f"Call {service.name}/{handler.name}, do not wait"),
                "parameters": [*asked, _parameter("delay")],
                **_request_body(handler),
                "responses": {"202": _response("Send"), **_OTHERWISE},
            }
        },
    }
    if is_run:
        where, params = f"/restate/workflow/{target}", key
    else:
        where = f"/restate/invocation/{target}/{handler.name}/{{idempotencyKey}}"
        params = [*key, _parameter("idempotencyKeyPath")]
    missing: Json = {"404": _response("InvocationNotFoundError")}
    not_ready: Json = {"470": _response("InvocationNotReadyError")}
    for verb, tag, more in (("attach", "Attach", {}), ("output", "Get Output", not_ready)):
        paths[f"{where}/{verb}"] = {
            "get": {
                **_operation(handler, tag, f"{tag} of {service.name}/{handler.name}"),
                "parameters": params,
                "responses": {"200": _result(handler), **missing, **more, **_OTHERWISE},
            }
        }
    return paths


_SUFFIXES = {"Call": "", "Send": "Send", "Attach": "Attach", "Get Output": "Output"}


def _operation(handler: HandlerManifest, tag: str, otherwise: str) -> Json:
    return {
        "summary": handler.name,
        "description": handler.documentation or otherwise,
        "operationId": f"{handler.name}{_SUFFIXES[tag]}",
        "tags": [tag],
    }


def _request_body(handler: HandlerManifest) -> Json:
    if not handler.input_content_type:
        return {}
    content = _content(f"{handler.name}Request", handler.input_schema)
    return {
        "requestBody": {
            "required": handler.is_input_required,
            "content": {handler.input_content_type: content},
        }
    }


def _result(handler: HandlerManifest) -> Json:
    if not handler.output_content_type:
        return {"description": "No content"}
    content = _content(f"{handler.name}Response", handler.output_schema)
    return {"description": "The result", "content": {handler.output_content_type: content}}


def _content(name: str, schema: object | None) -> Json:
    return {} if schema is None else {"schema": {"$ref": f"#/components/schemas/{name}"}}


def _moved(schema: object, base: str) -> object:
    """Return a schema whose references into itself work from where it stands in a document."""
    if isinstance(schema, list):
        return [_moved(each, base) for each in cast("list[object]", schema)]
    if not isinstance(schema, dict):
        return schema
    moved: Json = {}
    for name, value in cast("Json", schema).items():
        if name in _LITERAL:
            moved[name] = value
        elif name in _NAMED and isinstance(value, dict):
            members = cast("Json", value)
            moved[name] = {each: _moved(member, base) for each, member in members.items()}
        elif name == "$ref":
            moved[name] = _moved_reference(value, base)
        elif name == "mapping" and isinstance(value, dict):
            # Of a discriminator: schemas by value.
            members = cast("Json", value)
            moved[name] = {each: _moved_reference(to, base) for each, to in members.items()}
        else:
            moved[name] = _moved(value, base)
    return moved


def _moved_reference(value: object, base: str) -> object:
    return base + value[1:] if isinstance(value, str) and value.startswith("#") else value


def _parameter(name: str) -> Json:
    return {"$ref": f"#/components/parameters/{name}"}


def _response(name: str) -> Json:
    return {"$ref": f"#/components/responses/{name}"}


_TEXT: Json = {"type": "string"}
_PARAMETERS: Json = {
    "key": {"name": "key", "in": "path", "required": True, "schema": _TEXT},
    "idempotencyKeyHeader": {
        "name": "idempotency-key",
        "in": "header",
        "required": False,
        "description": "Requests with one key are one invocation.",
        "schema": _TEXT,
    },
    "idempotencyKeyPath": {
        "name": "idempotencyKey",
        "in": "path",
        "required": True,
        "description": "The idempotency key of the request that made the invocation.",
        "schema": _TEXT,
    },
    "delay": {
        "name": "delay",
        "in": "query",
        "required": False,
        "description": "Start that much later.",
        "example": "10s",
        "schema": _TEXT,
    },
}
_ERROR_SCHEMA: Json = {
    "title": "RestateError",
    "type": "object",
    "description": "Why a request or an invocation failed",
    "required": ["message", "source"],
    "properties": {
        "code": {"type": "number", "title": "Code of the failure"},
        "message": {"type": "string", "title": "What happened"},
        "source": {
            "type": "string",
            "enum": ["ingress", "invocation"],
            "title": "What failed: the request, or for good the invocation",
        },
        "error_code": {"type": "string", "title": "Stable code, HFnnnn"},
        "hint": {"type": "string", "title": "What to do"},
        "metadata": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "title": "What the handler added",
        },
    },
}


def _error(description: str) -> Json:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/RestateError"}}},
    }


_SEND_SCHEMA: Json = {
    "title": "RestateSendResponse",
    "type": "object",
    "required": ["invocationId", "status"],
    "properties": {
        "invocationId": _TEXT,
        "executionTime": {"type": "string", "format": "date-time"},
        "status": {"type": "string", "enum": ["Accepted", "PreviouslyAccepted"]},
    },
}
_RESPONSES: Json = {
    "GenericError": _error("Why it failed"),
    "InvocationNotFoundError": _error("There is no such invocation"),
    "InvocationNotReadyError": _error("It has not completed yet"),
    "Send": {
        "description": "It is durable",
        "content": {"application/json": {"schema": _SEND_SCHEMA}},
    },
}
_OTHERWISE: Json = {"default": _response("GenericError")}


def view_admin_openapi(router: Router, version: str) -> Json:
    """Describe the routes of the admin API."""
    paths: dict[str, Json] = {}
    for route in router.routes:
        path = "/" + "/".join(route.segments)
        names = [segment[1:-1] for segment in route.segments if segment.startswith("{")]
        summary = (inspect.getdoc(route.endpoint) or "").partition("\n")[0]
        words = re.findall(r"[A-Za-z0-9]+", path)
        operation: Json = {
            "operationId": "_".join([route.method.lower(), *words]),
            "summary": summary,
            "responses": {
                "2XX": {"description": "Done"},
                "default": {"$ref": "#/components/responses/Error"},
            },
        }
        if names:
            operation["parameters"] = [
                {"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names
            ]
        paths.setdefault(path, {})[route.method.lower()] = operation
    return {
        "openapi": OPENAPI_VERSION,
        "info": {"title": "Holdfast admin API", "version": version},
        "paths": paths,
        "components": {
            "responses": {
                "Error": {
                    "description": "Why not",
                    "content": {"application/json": {"schema": _ADMIN_ERROR_SCHEMA}},
                }
            }
        },
    }


_ADMIN_ERROR_SCHEMA: Json = {
    "type": "object",
    "required": ["message"],
    "properties": {
        "message": _TEXT,
        "restate_code": {"type": ["string", "null"]},
        "error_code": _TEXT,
        "hint": _TEXT,
    },
}
