"""The operations of an agent as steps of the journal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Generic, Literal, TypeVar, cast

from pydantic_ai.durable_exec import (
    BoundDurableOperation,
    DurableOperation,
    DurableOperationBackend,
    DynamicToolsetCallToolParams,
    JournalOperationNamer,
    ModelRequestParams,
    ToolsetCallToolId,
    ToolsetCallToolParams,
    durable_unit_scope,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse

from holdfast.ai.guard import current
from holdfast.ai.model import durable_model_call
from holdfast.ai.tool import durable_tool_call
from holdfast.domain.detail import ModelCall, TokenUsage

ParamsT = TypeVar("ParamsT")
WireT = TypeVar("WireT")
ResultT = TypeVar("ResultT")

_namer = JournalOperationNamer("")


class Operations(DurableOperationBackend[None]):
    """Runs each operation as a step, where the framework asks for it."""

    def bind(
        self, operation: DurableOperation[ParamsT, WireT, ResultT]
    ) -> BoundDurableOperation[ParamsT, WireT, ResultT]:
        """Return an operation as one that runs in a step."""
        return _Bound(operation)

    def config_for_tool(
        self,
        operation: DurableOperation[ParamsT, WireT, ResultT],
        *,
        tool: object | None,
        tool_name: str,
    ) -> Literal[False] | None:
        """Return that a tool is an operation; what else holds for it is in `Options`."""
        return None

    def registrations(self) -> Sequence[Callable[..., object]]:
        """Return what must be known before a run: nothing."""
        return ()


class _Bound(BoundDurableOperation[ParamsT, WireT, ResultT], Generic[ParamsT, WireT, ResultT]):
    """One operation."""

    def __init__(self, operation: DurableOperation[ParamsT, WireT, ResultT]) -> None:
        self._operation = operation

    @property
    def operation(self) -> DurableOperation[ParamsT, WireT, ResultT]:
        """What it does."""
        return self._operation

    async def __call__(self, params: ParamsT, *, config: object | None = None) -> ResultT:
        """Run the operation in a step, or take its record."""
        is_tool_call = isinstance(self._operation.operation_id, ToolsetCallToolId)
        match params:
            case ModelRequestParams():
                return await self._call_model(params)
            case ToolsetCallToolParams() | DynamicToolsetCallToolParams() if is_tool_call:
                return await self._call_tool(params)
            case _:
                return await self._run(params)

    async def _call_model(self, params: ModelRequestParams) -> ResultT:
        # One knob for retries: this turns those of the provider's client off.
        settings: Any = {**(params.model_settings or {}), "max_retries": 0}
        patient: Any = replace(params, model_settings=settings)
        return await durable_model_call(
            self._body(patient),
            encode=self._operation.result_codec.dump,
            decode=self._operation.result_codec.load,
            describe=lambda response: _describe(params, cast("ModelResponse | None", response)),
            final=(UserError,),
        )

    async def _call_tool(
        self, params: ToolsetCallToolParams | DynamicToolsetCallToolParams
    ) -> ResultT:
        call_id = params.ctx.tool_call_id or ""
        return await durable_tool_call(
            params.name,
            call_id,
            self._body(cast("ParamsT", params)),
            encode=self._operation.result_codec.dump,
            decode=self._operation.result_codec.load,
            shown=params.tool_args,
        )

    async def _run(self, params: ParamsT) -> ResultT:
        # Agents have scopes of their own, so the name has none.
        name = _namer.operation_name(self._operation.operation_id).removeprefix("__")
        body = self._body(params)

        async def dumped() -> Any:
            return self._operation.result_codec.dump(await body())

        return self._operation.result_codec.load(await current().run(name, dumped, type=Any))

    def _body(self, params: ParamsT) -> Callable[[], Awaitable[ResultT]]:
        async def body() -> ResultT:
            with durable_unit_scope():
                return await self._operation.handler(params)

        return body


def _describe(params: ModelRequestParams, response: ModelResponse | None) -> ModelCall:
    model = params.run_context.model
    request = params.model_request_parameters
    tools = [{"kind": "tool", "name": t.name, "schema": t.parameters_json_schema}
             for t in (*request.function_tools, *request.output_tools)]  # fmt: skip
    settings = {
        name: value for name, value in (params.model_settings or {}).items() if _is_plain(value)
    }
    call = ModelCall(
        provider=model.system,
        request_model=model.model_name,
        settings=settings,
        messages=[*tools, *_json(params.messages)],
        agent_name=(params.run_context.agent and params.run_context.agent.name) or "",
        conversation_id=params.run_context.conversation_id or "",
    )
    if response is None:
        return call
    usage = response.usage
    return _answered(call, response, usage)


def _answered(call: ModelCall, response: ModelResponse, usage: Any) -> ModelCall:
    import msgspec

    return msgspec.structs.replace(
        call,
        response_model=response.model_name or "",
        response_id=response.provider_response_id or "",
        answer=_json([response])[0],
        tool_calls=[
            {"id": part.tool_call_id, "name": part.tool_name, "arguments": part.args}
            for part in response.tool_calls
        ],
        usage=TokenUsage(
            input=usage.input_tokens,
            cached_input=usage.cache_read_tokens,
            output=usage.output_tokens,
            reasoning=usage.details.get("reasoning_tokens"),
        ),
        finish_reasons=[response.finish_reason] if response.finish_reason else [],
    )


def _json(messages: list[ModelMessage]) -> list[Any]:
    dumped: list[Any] = ModelMessagesTypeAdapter.dump_python(messages, mode="json")
    return dumped


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool | list | dict)
