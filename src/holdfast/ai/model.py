"""One call of a model as one durable step.

Retries are in one place. A failure that may pass (408, 409, 429, 5xx, a lost connection, missing
rights) fails the step and is tried again by its policy, no earlier than `retry-after` says. A
request that the provider refuses as wrong ends the call at once. So the retries of clients and
frameworks must be off, or limits multiply.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable
from time import perf_counter
from typing import Any, TypeVar

from holdfast.ai.admission import admitted
from holdfast.ai.agent import current_options, end_run
from holdfast.ai.failure import is_hopeless, note, restored, status_of, terminal
from holdfast.ai.option import Options
from holdfast.ai.record import describe_model_call, observation, observed
from holdfast.domain.detail import ModelCall
from holdfast.domain.errors import TerminalError
from holdfast.sdk.interrupt import Cancelled

T = TypeVar("T")
E = TypeVar("E")


def _nothing(_: object) -> None:
    return None


async def durable_model_call(
    call: Callable[[], Awaitable[T]],
    *,
    encode: Callable[[T], Any],
    decode: Callable[[Any], T],
    describe: Callable[[T | None], ModelCall | None] = _nothing,
    options: Options | None = None,
    final: tuple[type[Exception], ...] = (),
) -> T:
    """Call a model, or take the recorded answer.

    The answer goes through `encode` and `decode` at the first time too, so that a replay continues
    with the very same values.

    Args:
        call: Makes the request. It runs in the body of a step: once, and again after a failure that
            may pass or a crash. When the invocation is cancelled, it is cancelled, which closes
            the connection.
        encode: Makes a JSON value of an answer.
        decode: Makes the answer of that value. Must read what earlier versions recorded.
        describe: Returns what is shown of the call, with the answer or, if it failed, with `None`.
            Latency, agent and error are filled in. Not asked when the HTTP layer saw the request.
        options: `None` takes those of the agent run around it.
        final: Exceptions of the framework that the answer itself decides, such as a content filter:
            they are recorded and not tried again.

    Returns:
        The answer.

    Raises:
        TerminalError: The provider refused the request, its retries are used up, or one of `final`.
            It is also an instance of the exception that the client or framework raised.
        UsageError: Not in a handler.
    """
    options = current_options() if options is None else options

    async def body() -> Any:
        started_s = perf_counter()
        with observed() as seen:
            try:
                answer = await call()
            except Exception as error:
                describe_model_call(
                    lambda: describe(None), started_s=started_s, seen=seen, error=error
                )
                if isinstance(error, final) or is_hopeless(error):
                    raise terminal(error, _refusal(error)) from error
                note(error)
                raise
            describe_model_call(lambda: describe(answer), started_s=started_s, seen=seen)
        return encode(answer)

    def known(record: Any) -> ModelCall | None:
        return describe(None if record is None else decode(record))

    try:
        return decode(await admitted(body, options, describe=known))
    except Cancelled as error:
        end_run(error)
    except TerminalError as error:
        raise restored(error) from None


async def durable_model_stream(
    open: Callable[[], AsyncIterable[E]],
    *,
    encode: Callable[[E], Any],
    decode: Callable[[Any], E],
    describe: Callable[[list[E] | None], ModelCall | None] = _nothing,
    options: Options | None = None,
    final: tuple[type[Exception], ...] = (),
    on_event: Callable[[E], None] = _nothing,
) -> list[E]:
    """Call a model that streams, or take the recorded events.

    The handler gets the events when all of them are recorded, because nothing may build on what a
    crash could still take back. Who wants to see them as they come reads the durable stream.

    Args:
        open: Begins the stream.
        encode: Makes a JSON value of an event.
        decode: Makes the event of that value.
        on_event: Sees each event as it comes, in the body of the step; puts text into the durable
            stream. Not called when the HTTP layer does that.
        describe: As in `durable_model_call`, with all events.
        options: As in `durable_model_call`.
        final: As in `durable_model_call`.

    Raises:
        TerminalError: As in `durable_model_call`.
    """

    async def call() -> list[E]:
        events: list[E] = []
        seen = observation()
        async for event in open():
            if seen is None or not seen.is_shown:
                on_event(event)
            events.append(event)
        return events

    return await durable_model_call(
        call,
        encode=lambda events: [encode(event) for event in events],
        decode=lambda values: [decode(value) for value in values or ()],
        describe=describe,
        options=options,
        final=final,
    )


def _refusal(error: Exception) -> str:
    status = status_of(error)
    if isinstance(error, TerminalError) or not is_hopeless(error):
        return str(error)
    return f"the model refused the request ({status}): {error}"
