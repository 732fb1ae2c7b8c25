"""What a journal knows of the tries of steps whose outcome must not be unknown. Sans-IO.

Such a step (`ctx.run(…, on_unknown=…)`) records that its body begins, and the body waits until that
is durable. Its records are steps that are done, in a branch below the key of the step:

    run:charge#0/begin#0    the body may have begun
    run:charge#0/end#0      how the first try ended, if it did not end with the result of the step:
                            it failed, or never began
    run:charge#0/ask#0      a person is asked what became of a try

What has begun and has neither an end nor a result is *unknown*: the process died, or lost its
server. No program asks for these records by key, so they are not there to be claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Literal

import msgspec

from holdfast.domain.message import Completion, Entry, Run, Start, Value

_BEGIN, _END, _ASK = "begin", "end", "ask"
_TAILS = tuple(f"{kind}#" for kind in (_BEGIN, _END, _ASK))

Reason = Literal["failed", "unused", "unheard", "passed on"]
"""Why a try has ended without a result.

    failed      its body raised an exception that is no result
    unused      its attempt failed for other reasons before the body began
    unheard     the input was closed before it was known that the begin is durable
    passed on   the same, and the next attempt, and no later one, may begin the body
"""


class _End(msgspec.Struct, frozen=True):
    reason: Reason
    at_ms: int
    """Milliseconds since the epoch."""
    attempt: int = 0
    """To which it is passed on."""


class _Ask(msgspec.Struct, frozen=True):
    """What a person who looks at the journal sees."""

    awakeable_id: str
    question: str
    idempotency_key: str
    begin: int
    """Number of the try."""
    problem: str = ""
    """Why the answer before this one was not taken."""


class Standing(Enum):
    """Where a step stands when its body would run."""

    NEW = 1
    """A try has to be recorded first."""
    HALF = 2
    """One is, but not that it is durable; the body has not begun."""
    READY = 3
    """This attempt may run the body at once, and no other one may."""
    UNKNOWN = 4
    """The body may have run."""


class _Step:
    """The tries of one step."""

    __slots__ = (
        "asks", "begin_id", "begins", "end", "ends", "failures", "is_durable", "last_ask",
        "since_ms", "unheard",
    )  # fmt: skip

    def __init__(self) -> None:
        self.begins = 0
        self.begin_id = 0
        self.is_durable = False
        self.end: _End | None = None
        """Of the last try."""
        self.ends = 0
        self.asks = 0
        self.last_ask: _Ask | None = None
        self.failures = 0
        self.since_ms = 0
        """Time of the first failure."""
        self.unheard = 0
        """In a row."""


def is_try(key: str) -> bool:
    """Return whether a journal key is that of a record of a try."""
    return key.rpartition("/")[2].startswith(_TAILS)


class StepTries:
    """The tries of one attempt's steps, by the journal key of the step.

    Args:
        start: Of the attempt.
        records: Recorded commands with a key that `is_try`, in order.
        entries: The journal so far.
        write: Records a step that is done (key, name, content), and returns its completion id.
    """

    def __init__(
        self,
        start: Start,
        records: Iterable[Run],
        entries: Iterable[Entry],
        write: Callable[[str, str, bytes], int],
    ) -> None:
        self._start = start
        self._write = write
        self._steps: dict[str, _Step] = {}
        records = list(records)
        if records:
            results = {e.completion_id: e.result for e in entries if isinstance(e, Completion)}
            for record in records:
                result = results.get(record.completion_id)
                self._load(record, result.content if isinstance(result, Value) else None)

    def _load(self, record: Run, content: bytes | None) -> None:
        """Take a record; no content: the attempt ended between the record and its result."""
        key, _, tail = record.key.rpartition("/")
        step = self._steps.setdefault(key, _Step())
        kind, _, number = tail.rpartition("#")
        if kind == _BEGIN:
            step.begins, step.begin_id = int(number) + 1, record.completion_id
            step.is_durable, step.end = content is not None, None
        elif kind == _ASK:
            step.asks = int(number) + 1
            step.last_ask = None if content is None else msgspec.json.decode(content, type=_Ask)
        else:
            # That the try before it has ended is certain; why is not known if it has no content.
            end = _End("unused", 0) if content is None else msgspec.json.decode(content, type=_End)
            step.ends = int(number) + 1
            self._note_end(step, end)

    def _note_end(self, step: _Step, end: _End) -> None:
        step.end = end
        step.unheard = step.unheard + 1 if end.reason == "unheard" else 0
        if end.reason == "failed":
            step.failures += 1
            step.since_ms = step.since_ms or end.at_ms

    # -- facts ------------------------------------------------------------------------------------

    def standing(self, key: str) -> Standing:
        """Return where a step without a result stands."""
        step = self._steps.get(key)
        if step is None:
            return Standing.NEW
        if step.end is None:
            return Standing.UNKNOWN if step.is_durable else Standing.HALF
        if step.end.reason != "passed on":
            return Standing.NEW
        return Standing.READY if step.end.attempt == self._start.attempt else Standing.UNKNOWN

    def begin_id(self, key: str) -> int:
        """Return the completion id of the last try that has begun."""
        return self._steps[key].begin_id

    def unheard(self, key: str) -> int:
        """Return how many tries in a row ended because nothing was heard of their begin."""
        step = self._steps.get(key)
        return 0 if step is None else step.unheard

    def failures(self, key: str) -> tuple[int, int]:
        """Return how many tries have failed, and when the first of them did (0: none has)."""
        step = self._steps.get(key)
        return (0, 0) if step is None else (step.failures, step.since_ms)

    # -- records ----------------------------------------------------------------------------------

    def begin(self, key: str, name: str) -> int:
        """Record that a body begins. Returns the completion id: when it arrives, it may."""
        step = self._steps.setdefault(key, _Step())
        step.begin_id = self._write(f"{key}/{_BEGIN}#{step.begins}", f"begin: {name}", b"{}")
        step.begins += 1
        step.is_durable, step.end = False, None
        return step.begin_id

    def end(self, key: str, name: str, reason: Reason, at_ms: int) -> None:
        """Record how the last try has ended."""
        step = self._steps[key]
        attempt = self._start.attempt + 1 if reason == "passed on" else 0
        end = _End(reason, at_ms, attempt)
        self._write(f"{key}/{_END}#{step.ends}", f"end: {name}", msgspec.json.encode(end))
        step.ends += 1
        self._note_end(step, end)

    def ask_key(self, key: str) -> str:
        """Return the journal key of the question about the last try; its awakeable derives from it.

        It is that of the question which is open, if one is.
        """
        step = self._steps[key]
        is_open = step.last_ask is not None and step.last_ask.begin == step.begins - 1
        return f"{key}/{_ASK}#{step.asks - 1 if is_open else step.asks}"

    def ask(
        self, key: str, name: str, awakeable_id: str, idempotency_key: str, problem: str = ""
    ) -> None:
        """Record what a person is asked, unless that is recorded."""
        step = self._steps[key]
        ask_key = self.ask_key(key)
        if ask_key == f"{key}/{_ASK}#{step.asks}":
            question = f"Did {name!r} happen? Nobody knows: the attempt that ran it was lost."
            ask = _Ask(awakeable_id, question, idempotency_key, step.begins - 1, problem)
            self._write(ask_key, f"ask: {name}", msgspec.json.encode(ask))
            step.asks += 1
            step.last_ask = ask

    def refuse_answer(self, key: str) -> None:
        """The answer to the open question means nothing: the next question is another one."""
        self._steps[key].last_ask = None
