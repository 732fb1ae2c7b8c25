"""Models and providers whose calls are durable steps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from agents import Model, ModelProvider, ModelResponse
from pydantic import TypeAdapter

from holdfast.ai.model import durable_model_call, durable_model_stream
from holdfast.domain.detail import ModelCall

from ._active import in_run
from ._describe import describe_answer, describe_call, describe_events, named
from ._event import decode_event, encode_event, show_event

if TYPE_CHECKING:
    from agents.items import TResponseStreamEvent
    from agents.retry import ModelRetryAdvice, ModelRetryAdviceRequest

_RESPONSES = TypeAdapter(ModelResponse)


def _dump(response: ModelResponse) -> object:
    # Only what the provider sent: nulls added here would be in the next request.
    dumped: object = _RESPONSES.dump_python(
        response, mode="json", exclude_unset=True, warnings=False
    )
    return dumped


class DurableModel(Model):
    """A model whose every call is one durable step, recorded with its answer."""

    def __init__(self, inner: Model) -> None:
        self._inner = inner

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """Call the model, or take the recorded answer.

        The arguments are passed on as they are, because they grow from version to version.
        """

        def describe(answer: ModelResponse | None) -> ModelCall:
            call = describe_call(self._inner, named(args, kwargs), is_streamed=False)
            return call if answer is None else describe_answer(call, answer)

        with in_run():
            return await durable_model_call(
                lambda: self._inner.get_response(*args, **kwargs),
                encode=_dump,
                decode=_RESPONSES.validate_python,
                describe=describe,
            )

    async def stream_response(
        self, *args: Any, **kwargs: Any
    ) -> AsyncIterator[TResponseStreamEvent]:
        """Call the model, or take the recorded events.

        They come when all of them are recorded: nothing may build on what a crash could take back.
        The durable stream of the invocation gets the text before that.
        """

        def describe(events: list[TResponseStreamEvent] | None) -> ModelCall:
            call = describe_call(self._inner, named(args, kwargs), is_streamed=True)
            return describe_events(call, events or [])

        with in_run():
            events = await durable_model_stream(
                lambda: self._inner.stream_response(*args, **kwargs),
                encode=encode_event,
                decode=decode_event,
                describe=describe,
                on_event=show_event,
            )
        for event in events:
            yield event

    async def close(self) -> None:
        """Close the wrapped model."""
        await self._inner.close()

    def get_retry_advice(self, request: ModelRetryAdviceRequest) -> ModelRetryAdvice | None:
        """Pass on what the wrapped model advises."""
        return self._inner.get_retry_advice(request)

    async def _cleanup_on_run_end(self, owner: object) -> None:
        await self._inner._cleanup_on_run_end(owner)

    def __getattr__(self, name: str) -> object:
        # The runner also asks models for optional features, by name.
        return getattr(self._inner, name)


class DurableProvider(ModelProvider):
    """A provider whose models are durable."""

    def __init__(self, inner: ModelProvider) -> None:
        self._inner = inner

    def get_model(self, model_name: str | None) -> Model:
        """Return the durable form of the user's model."""
        return durable_model(self._inner.get_model(model_name))

    async def aclose(self) -> None:
        """Close the wrapped provider."""
        await self._inner.aclose()

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


def durable_model(model: Model) -> DurableModel:
    """Wrap a model, unless it is wrapped already."""
    return model if isinstance(model, DurableModel) else DurableModel(model)
