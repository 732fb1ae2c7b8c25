"""Tools whose every call is a durable step.

As with models, a copy is of a class made from the tool's own: the kit asks what tools are.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import copy
from typing import Any, cast

from google.adk.events import EventActions
from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.tool_context import ToolContext

from holdfast.ai.guard import current, warn_if_outside, whereabouts
from holdfast.ai.option import ToolOptions
from holdfast.ai.tool import durable_tool_call

from ._choice import chosen
from ._value import decode_value, encode_value

_MARK = "holdfast_is_durable"
_OPTIONS_KEY = "holdfast"
_classes: dict[type[BaseTool], type[BaseTool]] = {}


def durable_tool(tool: BaseTool) -> BaseTool:
    """Return a copy of a tool whose calls are durable steps when they are made in a handler."""
    if hasattr(type(tool), _MARK):
        return tool
    copied = copy.copy(tool)
    object.__setattr__(copied, "__class__", _class_of(type(tool)))
    return copied


def _class_of(kind: type[BaseTool]) -> type[BaseTool]:
    if kind not in _classes:

        async def run_async(
            self: BaseTool, *, args: dict[str, Any], tool_context: ToolContext
        ) -> Any:
            if whereabouts() != "handler":
                warn_if_outside(f"tool {self.name!r}")
                return await kind.run_async(self, args=args, tool_context=tool_context)
            return await _Call(self, kind, args, tool_context).run()

        body = {
            "__module__": kind.__module__,
            "__qualname__": kind.__qualname__,
            _MARK: True,
            "run_async": run_async,
        }
        _classes[kind] = cast("type[BaseTool]", type(kind.__name__, (kind,), body))
    return _classes[kind]


def _runs_agents(tool: BaseTool) -> bool:
    # A tool of the kit that runs an agent or a workflow inside the run. Its model calls are steps
    # of their own, and its events belong to the session: replay has to go through it.
    return isinstance(tool, AgentTool) or hasattr(tool, "node")


class _Call:
    """One call of one tool."""

    def __init__(
        self, tool: BaseTool, kind: type[BaseTool], args: dict[str, Any], context: ToolContext
    ) -> None:
        self._tool = tool
        self._kind = kind
        self._args = args
        self._context = context

    async def run(self) -> Any:
        """Make the call, or take its record."""
        name, call_id = self._tool.name, self._context.function_call_id or ""
        if _runs_agents(self._tool):
            with current().scope(f"tool:{name}:{call_id}"):
                return await self._body()
        return await durable_tool_call(
            name,
            call_id,
            self._body,
            options=chosen(),
            own=self._own_options(),
            encode=self._encode,
            decode=self._decode,
            shown=self._args,
        )

    async def _body(self) -> Any:
        return await self._kind.run_async(self._tool, args=self._args, tool_context=self._context)

    def _own_options(self) -> ToolOptions | None:
        own = (self._tool.custom_metadata or {}).get(_OPTIONS_KEY)
        return own if isinstance(own, ToolOptions) else None

    def _encode(self, result: Any) -> dict[str, Any]:
        actions = self._context.actions.model_dump(mode="json", exclude_defaults=True)
        record = {"result": encode_value(result, self._tool.name)}
        return {**record, "actions": actions} if actions else record

    def _decode(self, record: dict[str, Any]) -> Any:
        # What the tool did to the state and to the flow is done again when it does not run.
        actions = EventActions.model_validate(record.get("actions", {}))
        for name in actions.model_fields_set - {"state_delta"}:
            setattr(self._context.actions, name, getattr(actions, name))
        for name, value in actions.state_delta.items():
            self._context.state[name] = value
        return decode_value(record["result"])
