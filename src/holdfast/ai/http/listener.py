"""Follows one answer of a model while it arrives. Sans-IO: headers and bytes in, decisions out.

It finds the end of a stream, passes text on to the durable stream of the invocation, and describes
the call to the step that makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

import msgspec

import holdfast.chunk
from holdfast.ai.agent import current_options
from holdfast.ai.guard import warn_once, whereabouts
from holdfast.ai.http.recorded import Recorded, is_event_stream, recorded
from holdfast.ai.provider.json_value import decoded, object_in
from holdfast.ai.provider.route import ModelRequest
from holdfast.ai.provider.sse import Event, Scanner
from holdfast.ai.record import Observation, describe_model_call, observation
from holdfast.domain.detail import ModelCall
from holdfast.domain.errors import UsageError
from holdfast.sdk.verb_stream import emit


class StreamBroken(Exception):
    """What came is not the whole answer of a model. Trying again helps."""


def described(request: ModelRequest, answer: Recorded | None) -> ModelCall:
    """Return what is known of a call: from its request, and from its recorded answer."""
    if answer is None or answer.status >= 400:
        return request.call
    try:
        if is_event_stream(answer.headers):
            scanner = Scanner()
            events = [*scanner.feed(answer.content), *scanner.close()]
            return request.reader.answer(request.call, request.reader.assembled(events))
        return request.reader.answer(request.call, object_in(decoded(answer.content)))
    except Exception:
        # What providers send is theirs to change; the call itself must not suffer.
        warn_once("an answer of %s could not be read for its description", request.call.provider)
        return request.call


class Listener:
    """Follows one answer."""

    def __init__(self, request: ModelRequest) -> None:
        self._request = request
        self._started_s = perf_counter()
        self._status = 0
        self._headers: Mapping[str, str] = {}
        self._parts: list[bytes] = []
        self._scanner: Scanner | None = None
        self._events: list[Event] = []
        self._first_text_s: float | None = None
        self._is_ended = False
        around = observation()
        self._is_alone = around is None
        self._seen = around or Observation()
        self._seen.request_count += 1
        self._stream = current_options().stream

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Take status and headers, the names of these in lower case."""
        self._status = status
        self._headers = headers
        if status < 400 and is_event_stream(headers):
            self._scanner = Scanner()

    def feed(self, content: bytes) -> bool:
        """Take the next bytes of the body. Returns whether nothing more needs to come.

        Raises:
            StreamBroken: The provider broke the stream off with an error.
        """
        self._parts.append(content)
        if self._scanner is not None:
            for event in self._scanner.feed(content):
                self._on_event(event)
        return self._is_ended

    def close(self) -> Recorded:
        """The body has come to an orderly end. Returns what is recorded.

        Raises:
            StreamBroken: The answer has not.
        """
        if self._scanner is not None:
            for event in self._scanner.close():
                self._on_event(event)
            if not self._is_ended and not self._request.reader.has_end(self._events):
                raise StreamBroken("the stream of the model ended before its answer did")
        answer = recorded(self._status, self._headers, b"".join(self._parts))
        if self._scanner is None and self._status < 300 and not answer.json:
            # Of something in between, which is no reason to keep it for ever.
            raise StreamBroken(f"the answer of the model is no JSON: {answer.content[:200]!r}")
        return answer

    def describe(self, error: BaseException | None = None) -> None:
        """Describe the call to the step that makes it, or to the model call around it."""
        self._seen.call = self._described()
        if self._is_alone:
            describe_model_call(
                lambda: None, started_s=self._started_s, seen=self._seen, error=error
            )

    def _described(self) -> ModelCall:
        first_s = self._first_text_s
        answer = recorded(self._status, self._headers, b"".join(self._parts))
        call = described(self._request, answer if self._status else None)
        return msgspec.structs.replace(
            call,
            latency_ms=round((perf_counter() - self._started_s) * 1000),
            is_streamed=self._scanner is not None,
            error=f"status {self._status}" if self._status >= 400 and self._is_alone else "",
            time_to_first_token_ms=(
                None if first_s is None else round((first_s - self._started_s) * 1000)
            ),
        )

    def _on_event(self, event: Event) -> None:
        self._events.append(event)
        reader = self._request.reader
        if failure := reader.failure(event):
            raise StreamBroken(f"the model broke off its stream: {failure}")
        text = reader.text(event)
        if text:
            if self._first_text_s is None:
                self._first_text_s = perf_counter()
            self._show(text)
        self._is_ended = self._is_ended or reader.is_end(event)

    def _show(self, text: str) -> None:
        if self._stream is None or whereabouts() != "step":
            return
        self._seen.is_shown = True
        try:
            emit(holdfast.chunk.Text(text), stream=self._stream)
        except UsageError as error:
            # Readers miss something; the call goes on, and its result is what counts.
            warn_once("text of a model could not be put into the stream: %s", error.message)
