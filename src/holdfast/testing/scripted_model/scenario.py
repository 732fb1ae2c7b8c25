"""What a scripted model says: scenarios, turns, faults, and the request a turn may look at.

Nothing here knows a wire format: `chat` and `responses` translate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

JsonObject: TypeAlias = dict[str, object]
"""A JSON object, decoded. Its values are checked where they are read."""

CHARACTERS_PER_TOKEN = 4
"""Token counts that a turn does not state are estimated with this usual rule of thumb."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One tool call in a model's answer. Several in one turn are parallel tool calls."""

    name: str
    """Name of the tool, as offered in the request."""
    arguments: Mapping[str, object] = field(default_factory=dict[str, object])
    """JSON-compatible arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts reported with an answer."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    """Part of `input_tokens` that came from the provider's prompt cache."""
    reasoning_tokens: int = 0
    """Part of `output_tokens` that was spent on reasoning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong at one attempt of a turn. Without `status` or `drop`, it is only slow."""

    status: int | None = None
    """Answer with this HTTP status and a JSON error body."""
    retry_after_s: float | None = None
    """Sent as the `retry-after` header with `status`."""
    delay_s: float = 0.0
    """Wait before anything else happens."""
    drop: bool = False
    """Close the connection without an answer."""
    drop_after_events: int | None = None
    """Close the connection after that many events of a streamed answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One answer of the model: a text, tool calls, or both."""

    text: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage | None = None
    """Reported token counts; `None` estimates them from the sizes of request and answer."""
    delay_s: float = 0.0
    """Wait before the answer begins, at every attempt."""
    event_delay_s: float = 0.0
    """Wait before each event of a streamed answer."""
    faults: tuple[Fault, ...] = ()
    """One per attempt at this turn; when they are used up, the turn succeeds."""

    def __post_init__(self) -> None:
        if self.text is None and not self.tool_calls:
            raise ValueError("a scripted turn needs a text, tool calls, or both")


Api: TypeAlias = Literal["anthropic", "chat", "embeddings", "gemini", "responses"]
"""The APIs: Anthropic Messages, OpenAI Chat Completions, OpenAI and Gemini embeddings, Gemini
generateContent, OpenAI Responses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """A request to the model, the same for all APIs."""

    api: Api
    model: str
    """The model name of the request: it names the scenario."""
    stream: bool
    body: JsonObject
    """The decoded JSON body, as it was sent."""
    turn_index: int
    """Index of the turn to play, from 0: the number of model turns already in the conversation."""
    prompt: str
    """Text of the last message from the user, empty if there is none."""
    tool_outputs: tuple[str, ...]
    """Outputs of the tool calls of the last model turn, in the order in which they were sent."""
    tools: tuple[str, ...]
    """Names of the offered function tools."""
    call_number: int = 1
    """Number of this request among those of its scenario, from 1."""


TurnFunction: TypeAlias = "Callable[[ModelRequest], Turn | str]"
"""Makes a turn from a request. It runs in a thread of the server, possibly in several at once."""

TurnSpec: TypeAlias = "Turn | str | TurnFunction"
"""One turn of a scenario; a plain string is a text."""

Scenario: TypeAlias = "Sequence[TurnSpec] | TurnFunction"
"""Turns in order, or one function for all of them (it can look at `turn_index`)."""


class ScenarioError(Exception):
    """The scenario has no answer to a request. The client is told, with status 400."""


def play(scenario: Scenario, request: ModelRequest) -> Turn:
    """Return the turn that answers a request.

    Raises:
        ScenarioError: The scenario is shorter than the conversation.
    """
    spec: TurnSpec
    if callable(scenario):
        spec = scenario
    elif request.turn_index < len(scenario):
        spec = scenario[request.turn_index]
    else:
        raise ScenarioError(
            f"scenario {request.model!r} has {len(scenario)} turns, but the conversation asks for "
            f"turn {request.turn_index + 1}"
        )
    said = spec(request) if callable(spec) else spec
    return Turn(text=said) if isinstance(said, str) else said


def usage_of(turn: Turn, request: ModelRequest) -> Usage:
    """Return the token counts of a turn, estimated when it does not state them."""
    if turn.usage is not None:
        return turn.usage
    said = len(turn.text or "") + sum(len(str(call)) for call in turn.tool_calls)
    return Usage(
        input_tokens=max(1, len(str(request.body)) // CHARACTERS_PER_TOKEN),
        output_tokens=max(1, said // CHARACTERS_PER_TOKEN),
    )


def pieces_of(text: str) -> list[str]:
    """Cut a text into the pieces of a streamed answer; joined they give the text again."""
    words = text.split(" ")
    return [word if index == 0 else f" {word}" for index, word in enumerate(words)]
