"""What is offered: handlers as the admin API shows them, in the terms of tools."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import cast

from holdfast.domain.target import MCP_FLAG

JsonObject = dict[str, object]

_NO_CONTENT = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A handler that is offered."""

    service: str
    handler: str
    is_keyed: bool
    """Whether it is invoked with a key."""
    is_run: bool
    """Whether it is the main handler of a workflow: its key alone makes it run once."""
    documentation: str
    input_schema: JsonObject | None
    """None: any JSON, or nothing."""
    output_schema: JsonObject | None
    """None: any JSON, or nothing."""

    @property
    def target(self) -> str:
        """`Service/handler`."""
        return f"{self.service}/{self.handler}"


def read_offers(found: JsonObject, *, services: Collection[str], is_all: bool) -> list[Offer]:
    """Return the handlers that are offered, in the order of the catalog.

    Private handlers are never offered, and neither are those that take or return something else
    than JSON.

    Args:
        found: Answer of `GET /services`.
        services: Only these; empty: of all services.
        is_all: Also those that do not have the option `mcp`.
    """
    return [
        _offer(service, handler)
        for service in _objects(found["services"])
        if service["public"] and (not services or service["name"] in services)
        for handler in _objects(service["handlers"])
        if handler["public"] and (is_all or _is_flagged(handler, service)) and _is_json(handler)
    ]


def _offer(service: JsonObject, handler: JsonObject) -> Offer:
    return Offer(
        service=str(service["name"]),
        handler=str(handler["name"]),
        is_keyed=service["ty"] != "Service",
        is_run=handler.get("ty") == "Workflow",
        documentation=str(handler.get("documentation") or ""),
        input_schema=cast("JsonObject | None", handler.get("input_json_schema")),
        output_schema=cast("JsonObject | None", handler.get("output_json_schema")),
    )


def _is_flagged(handler: JsonObject, service: JsonObject) -> bool:
    # The SDKs of Restate know no options of ours, but metadata: also of a whole service.
    own, inherited = (
        cast("JsonObject", shown.get("metadata") or {}).get(MCP_FLAG)
        for shown in (handler, service)
    )
    return (inherited if own is None else own) == "true"


def _is_json(handler: JsonObject) -> bool:
    return all(
        "json" in kind.lower() or kind.removeprefix("optional ") == _NO_CONTENT
        for kind in (str(handler["input_description"]), str(handler["output_description"]))
    )


def _objects(items: object) -> Iterable[JsonObject]:
    return cast("list[JsonObject]", items)
