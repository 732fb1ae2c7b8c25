"""Models whose every call is a durable step.

The copy is of a class made from the model's own, with only the call replaced: the kit asks models
what they are an instance of.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, ClassVar, TypeVar, cast

from google.adk.models import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types

from holdfast.ai.guard import warn_if_outside, whereabouts
from holdfast.ai.model import durable_model_stream

from ._choice import chosen
from ._describe import describe, show
from ._platform import use_our_platform

M = TypeVar("M", bound=BaseLlm)

_MARK = "holdfast_is_durable"
_classes: dict[type[BaseLlm], type[BaseLlm]] = {}


def durable_model(model: M) -> M:
    """Return a model whose calls are durable steps when they are made in a handler.

    Args:
        model: Any model of the kit. It is copied.
    """
    if hasattr(type(model), _MARK):
        return model
    copied = model.model_copy()
    object.__setattr__(copied, "__class__", _class_of(type(model)))
    return copied


def _class_of(kind: type[BaseLlm]) -> type[BaseLlm]:
    if kind not in _classes:

        async def generate_content_async(
            self: BaseLlm, llm_request: LlmRequest, stream: bool = False
        ) -> AsyncGenerator[LlmResponse, None]:
            # The flow makes ids of calls from the answer, in this context.
            use_our_platform()
            if whereabouts() != "handler":
                warn_if_outside(f"a call of {kind.__name__}")
                async for response in kind.generate_content_async(self, llm_request, stream):
                    yield response
                return
            for response in await _call(self, kind, llm_request, stream):
                yield response

        body = {
            "__annotations__": {_MARK: ClassVar[bool]},
            "__module__": kind.__module__,
            "__qualname__": kind.__qualname__,
            _MARK: True,
            "generate_content_async": generate_content_async,
        }
        _classes[kind] = cast("type[BaseLlm]", type(kind.__name__, (kind,), body))
    return _classes[kind]


async def _call(
    model: BaseLlm, kind: type[BaseLlm], request: LlmRequest, is_streamed: bool
) -> list[LlmResponse]:
    _without_retries(request)
    options = chosen()
    return await durable_model_stream(
        lambda: kind.generate_content_async(model, request, is_streamed),
        encode=encode_response,
        decode=decode_response,
        describe=lambda responses: describe(model, request, responses, is_streamed=is_streamed),
        options=options,
        on_event=lambda response: show(response, options.stream),
    )


def _without_retries(request: LlmRequest) -> None:
    """Turn the retries of Google's client off, for this request: the step's policy decides."""
    options = request.config.http_options or types.HttpOptions()
    request.config.http_options = options.model_copy(
        update={"retry_options": types.HttpRetryOptions(attempts=1)}
    )


def encode_response(response: LlmResponse) -> dict[str, Any]:
    """Return the recorded form of an answer, or of a piece of one."""
    return response.model_dump(mode="json", exclude_none=True)


def decode_response(record: dict[str, Any]) -> LlmResponse:
    """Return an answer from its recorded form."""
    return LlmResponse.model_validate(record)
