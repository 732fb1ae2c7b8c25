"""Events of streamed answers: as they are recorded, and as readers of the stream see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from openai._models import construct_type
from openai.types.responses import ResponseStreamEvent

import holdfast.chunk
from holdfast.ai.agent import current_options
from holdfast.ai.guard import warn_once, whereabouts
from holdfast.domain.errors import UsageError
from holdfast.sdk.verb_stream import emit

from ._output import is_json

if TYPE_CHECKING:
    from agents.items import TResponseStreamEvent

_MARKS = "holdfast_marks"
_THOUGHTS = ("response.reasoning_text.delta", "response.reasoning_summary_text.delta")


def encode_event(event: TResponseStreamEvent) -> dict[str, Any]:
    """Return the recorded form of an event: what the provider sent, and no nulls beside it."""
    # What providers send need not fit the types: the client takes it as it comes, and so do we.
    record = event.model_dump(mode="json", exclude_unset=True, warnings=False)
    if marks := _marks_of(getattr(event, "response", None)):
        record[_MARKS] = marks
    return record


def decode_event(record: dict[str, Any]) -> TResponseStreamEvent:
    """Return an event from its recorded form."""
    marks = record.pop(_MARKS, {})
    # As the client makes events of what it reads. Validation would choose other classes for parts
    # that fit several, and refuse what the provider added lately.
    made: Any = construct_type(type_=ResponseStreamEvent, value=record)
    for name, value in marks.items():
        object.__setattr__(made.response, name, value)
    return cast("TResponseStreamEvent", made)


def _marks_of(response: object) -> dict[str, Any]:
    """Return what models note on an answer for the SDK, such as the requests that it took."""
    if response is None:
        return {}
    fields = vars(response).items()
    return {name: value for name, value in fields if name[0] == "_" and is_json(value)}


def show_event(event: TResponseStreamEvent) -> None:
    """Put the text of an event into the durable stream of the invocation."""
    stream = current_options().stream
    if stream is None or whereabouts() != "step":
        return
    delta = getattr(event, "delta", None)
    if not isinstance(delta, str) or not delta:
        return
    if event.type == "response.output_text.delta":
        chunk: object = holdfast.chunk.Text(delta)
    elif event.type in _THOUGHTS:
        chunk = holdfast.chunk.Reasoning(delta)
    else:
        return
    try:
        emit(chunk, stream=stream)
    except UsageError as error:
        # Readers miss something; the call goes on, and its result is what counts.
        warn_once("text of a model could not be put into the stream: %s", error.message)
