"""Chat models whose every call is a durable step.

The copy is of a class made from the model's own, with only the innermost method replaced. So what
is built on a model (bound tools, structured output, callbacks, streaming) stays the model's own.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, TypeVar, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import BaseMessage, convert_to_openai_messages
from langchain_core.outputs import ChatGeneration, ChatResult

from holdfast.ai.guard import warn_if_outside, whereabouts
from holdfast.ai.model import durable_model_call
from holdfast.ai.option import Options
from holdfast.domain.detail import ModelCall, TokenUsage

from ._client import without_client_retries
from ._message import decode_message, encode_message

M = TypeVar("M", bound=BaseChatModel)

_OPTIONS = "holdfast_options"
_classes: dict[type[BaseChatModel], type[BaseChatModel]] = {}


def durable_model(model: M, options: Options | None = None) -> M:
    """Return a chat model whose calls are durable steps when they are made in a handler.

    Args:
        model: Any chat model, as it is. It is copied.
        options: `None` takes those of the agent run around the call.
    """
    if hasattr(type(model), _OPTIONS):
        return model
    copied = without_client_retries(model)
    # A cache outside of the journal would answer differently at replay.
    copied.cache = False
    # It would go round `_agenerate`; tokens are still handed on as they come, see there.
    copied.disable_streaming = True
    made = _class_of(type(model))
    if options is not None:
        made = type(made.__name__, (made,), _body(made, options))
    object.__setattr__(copied, "__class__", made)
    return copied


def _class_of(kind: type[BaseChatModel]) -> type[BaseChatModel]:
    if kind not in _classes:

        async def _agenerate(
            self: BaseChatModel,
            messages: list[BaseMessage],
            stop: list[str] | None = None,
            run_manager: AsyncCallbackManagerForLLMRun | None = None,
            **settings: Any,
        ) -> ChatResult:
            call = _Call(self, kind, messages, stop, run_manager, settings)
            return await call.run()

        body = {**_body(kind, None), "_agenerate": _agenerate}
        _classes[kind] = type(kind.__name__, (kind,), body)
    return _classes[kind]


def _body(kind: type[BaseChatModel], options: Options | None) -> dict[str, Any]:
    return {
        # Pydantic makes fields of class attributes that do not say that they are none.
        "__annotations__": {_OPTIONS: ClassVar[Any]},
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        _OPTIONS: options,
    }


class _Call:
    """One call of one model."""

    def __init__(
        self,
        model: BaseChatModel,
        kind: type[BaseChatModel],
        messages: list[BaseMessage],
        stop: list[str] | None,
        run_manager: AsyncCallbackManagerForLLMRun | None,
        settings: dict[str, Any],
    ) -> None:
        self._model = model
        self._kind = kind
        self._messages = messages
        self._stop = stop
        self._run_manager = run_manager
        self._settings = settings

    async def run(self) -> ChatResult:
        """Make the call, or take its record."""
        if whereabouts() != "handler":
            warn_if_outside(f"a call of {self._kind.__name__}")
            return await self._generate()
        return await durable_model_call(
            self._generate,
            encode=encode_result,
            decode=decode_result,
            describe=self._describe,
            options=getattr(type(self._model), _OPTIONS),
        )

    async def _generate(self) -> ChatResult:
        given: dict[str, Any] = {
            "stop": self._stop,
            "run_manager": self._run_manager,
            **self._settings,
        }
        if not self._is_streamed():
            return await self._kind._agenerate(self._model, self._messages, **given)
        # The model hands each token to the run manager itself, so readers see it at once.
        stream = self._kind._astream(self._model, self._messages, **given)
        return generate_from_stream(iter([chunk async for chunk in stream]))

    def _is_streamed(self) -> bool:
        can = self._kind._astream is not BaseChatModel._astream
        if not can or self._run_manager is None:
            return False
        wanted = "streaming" in self._model.model_fields_set and getattr(
            self._model, "streaming", False
        )
        return bool(wanted) or any(
            hasattr(handler, "tap_output_aiter") for handler in self._run_manager.handlers
        )

    def _describe(self, result: ChatResult | None) -> ModelCall:
        identifying = self._model._get_ls_params(stop=self._stop, **self._settings)
        answer = None if result is None else result.generations[0].message
        metadata: dict[str, Any] = {} if answer is None else answer.response_metadata
        settings = {
            name: value
            for name, value in self._settings.items()
            if name not in ("tools", "messages")
        }
        tools = cast("Iterable[Any]", self._settings.get("tools") or ())
        return ModelCall(
            provider=str(identifying.get("ls_provider", "")),
            request_model=str(identifying.get("ls_model_name", "")),
            response_model=str(metadata.get("model_name", "")),
            response_id=str(metadata.get("id") or ""),
            settings=settings,
            messages=[
                *({"kind": "tool", "definition": tool} for tool in tools),
                *convert_to_openai_messages(self._messages),
            ],
            answer=None if answer is None else convert_to_openai_messages(answer),
            tool_calls=[] if answer is None else list(getattr(answer, "tool_calls", ())),
            usage=_usage(answer),
            finish_reasons=[str(reason)] if (reason := metadata.get("finish_reason")) else [],
            is_streamed=self._is_streamed(),
        )


def encode_result(result: ChatResult) -> dict[str, Any]:
    """Return the recorded form of an answer."""
    return {
        "generations": [
            {
                "message": encode_message(generation.message),
                "info": generation.generation_info,
            }
            for generation in result.generations
        ],
        "llm_output": result.llm_output,
    }


def decode_result(record: dict[str, Any]) -> ChatResult:
    """Return the answer of its recorded form."""
    return ChatResult(
        generations=[
            ChatGeneration(
                message=decode_message(generation["message"]),
                generation_info=generation.get("info"),
            )
            for generation in record["generations"]
        ],
        llm_output=record.get("llm_output"),
    )


def _usage(answer: BaseMessage | None) -> TokenUsage:
    found: dict[str, Any] = getattr(answer, "usage_metadata", None) or {}
    read: dict[str, int] = found.get("input_token_details") or {}
    written: dict[str, int] = found.get("output_token_details") or {}
    return TokenUsage(
        input=found.get("input_tokens"),
        output=found.get("output_tokens"),
        cached_input=read.get("cache_read"),
        reasoning=written.get("reasoning"),
    )
