"""A model call at the level of HTTP as one durable step.

Retries are in one place, as in `holdfast.ai.model`. What is final goes to the client as a real
response of its provider with `x-should-retry: false`, so that it raises its own exception and does
not try again itself. A connection that failed for good has no response; there the exception of
the HTTP library goes to the client, which may send the request again, and gets the same once more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import msgspec

from holdfast.ai.admission import admitted
from holdfast.ai.agent import current_options
from holdfast.ai.failure import HOPELESS_STATUSES, metadata_of, note, restored
from holdfast.ai.http.listener import described
from holdfast.ai.http.recorded import RECORDED_SERDE, Recorded
from holdfast.ai.provider.route import ModelRequest
from holdfast.domain.errors import HoldfastError, TerminalError
from holdfast.sdk.branch import Branch, place
from holdfast.sdk.interrupt import Carried

if TYPE_CHECKING:
    from holdfast.sdk.attempt import Attempt

_METADATA_KEY = "holdfast_exchange"
_BODY_SIZE_BYTES_MAX = 32_768
"""Of what is recorded of the body of an error."""

DECIDED = {"holdfast_is_decided": True}
"""Extensions of responses that say: this is recorded, and another attempt would get it again."""

NO_RETRY = {"x-should-retry": "false"}
"""Tells clients in the style of OpenAI's not to retry by themselves."""


class Answer(NamedTuple):
    """What a client gets."""

    recorded: Recorded
    is_decided: bool
    """Whether it is an error that is final."""


class _Response(NamedTuple):
    """In the shape in which `Retry-After` is looked for."""

    status_code: int
    headers: dict[str, str]


class ModelRefused(Exception):
    """The provider answered with an error status."""

    def __init__(self, answer: Recorded) -> None:
        text = answer.content[:_BODY_SIZE_BYTES_MAX].decode(errors="replace")
        super().__init__(f"the model answered with status {answer.status}: {text}")
        self.status_code = answer.status
        self.response = _Response(answer.status, answer.headers)
        kept = answer
        if len(answer.content) > _BODY_SIZE_BYTES_MAX:
            kept = Recorded(status=answer.status, headers=answer.headers, text=text)
        self.holdfast_metadata = {_METADATA_KEY: msgspec.json.encode(kept).decode()}

    def check_hopeless(self) -> None:
        """Raise what ends the call if the same request can never succeed.

        Raises:
            TerminalError: It cannot.
        """
        if self.status_code in HOPELESS_STATUSES:
            raise TerminalError(str(self), metadata=self.holdfast_metadata) from self


_last_failures: WeakKeyDictionary[Attempt, dict[str, TerminalError]] = WeakKeyDictionary()
"""Of connections that failed for good, by the branch whose client may send the request again."""


async def journaled(
    perform: Callable[[], Awaitable[Recorded]], *, request: ModelRequest, is_again: bool
) -> Answer:
    """Make a model call, or take its recorded answer.

    Args:
        perform: Makes the request, in the body of a step. Raises `ModelRefused` for an error.
        request: What it asks for.
        is_again: Whether the client says that it sends the request another time.

    Raises:
        TerminalError: The connection failed for good. Also an exception of the HTTP library.
        Carried: Anything else that ends the call, such as a cancellation: no client may catch it.
    """
    branch = place.get()
    assert isinstance(branch, Branch)
    assert branch.attempt is not None
    failures = _last_failures.setdefault(branch.attempt, {})
    if is_again and branch.path in failures:
        raise failures[branch.path]
    failures.pop(branch.path, None)

    async def body() -> Recorded:
        try:
            return await perform()
        except ModelRefused as error:
            error.check_hopeless()
            raise
        except Exception as error:
            note(error)
            raise

    try:
        answer: Recorded = await admitted(
            body,
            current_options(),
            describe=partial(described, request),
            type=RECORDED_SERDE,
        )
        return Answer(answer, is_decided=False)
    except HoldfastError as error:
        raise Carried(error) from error
    except TerminalError as error:
        found = metadata_of(error).get(_METADATA_KEY)
        if found is not None:
            return Answer(msgspec.json.decode(found, type=Recorded), is_decided=True)
        failure = restored(error)
        if failure is error:
            raise Carried(error) from error
        failures[branch.path] = failure
        raise failure from None
