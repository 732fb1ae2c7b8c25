"""What handlers use: the durable verbs.

All verbs act in the branch of the code that calls them, not in that of the task where the context
came from. They begin at once, in program order, and return something to await.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from random import Random
from typing import Any, TypeVar, overload

from holdfast.domain.errors import UsageError
from holdfast.sdk.branch import Branch, call_site, entered, place, raise_misplaced
from holdfast.sdk.future import DurableFuture
from holdfast.sdk.result import nothing
from holdfast.sdk.retry import Duration, RetryPolicy, milliseconds
from holdfast.sdk.serde import return_annotation, serde_for
from holdfast.sdk.step import Step
from holdfast.sdk.unknown import OnUnknown, check_on_unknown
from holdfast.sdk.verb_approve import ApproveVerbs
from holdfast.sdk.verb_call import CallVerbs
from holdfast.sdk.verb_promise import PromiseVerbs
from holdfast.sdk.verb_signal import SignalVerbs
from holdfast.sdk.verb_state import StateVerbs
from holdfast.sdk.verb_stream import StreamVerbs
from holdfast.sdk.verb_workflow import WorkflowVerbs

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741
T = TypeVar("T")


class Context(
    ApproveVerbs, CallVerbs, PromiseVerbs, SignalVerbs, StateVerbs, StreamVerbs, WorkflowVerbs
):
    """The running invocation. Handlers get it as their first argument; see also `current()`."""

    __slots__ = ()

    # -- who am I ---------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Invocation id, `inv_1…`."""
        return self._attempt.machine.start.invocation_id

    @property
    def key(self) -> str:
        """Key of the object or workflow.

        Raises:
            UsageError: HF0506, the service has no keys.
        """
        if not self._attempt.handler.is_keyed:
            raise UsageError(
                f"{self._attempt.handler} has no key: it belongs to a Service", code="HF0506"
            )
        return self._attempt.machine.start.key

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the request, or those that the calling handler gave."""
        return dict(self._attempt.machine.input.headers)

    @property
    def attempt(self) -> int:
        """Number of this attempt, from 1. Do not branch on it."""
        return self._attempt.machine.start.attempt

    @property
    def is_replaying(self) -> bool:
        """Whether recorded results are still being handed over. For logs; do not branch on it."""
        return self._attempt.machine.is_replaying

    # -- steps ------------------------------------------------------------------------------------

    @overload
    def run(
        self,
        name: str,
        fn: Callable[..., Awaitable[T]],
        /,
        *args: Any,
        retry: RetryPolicy | None = None,
        on_unknown: OnUnknown = "retry",
        type: Any = None,
        **kwargs: Any,
    ) -> DurableFuture[T]: ...

    @overload
    def run(
        self,
        name: str,
        fn: Callable[..., T],
        /,
        *args: Any,
        retry: RetryPolicy | None = None,
        on_unknown: OnUnknown = "retry",
        type: Any = None,
        **kwargs: Any,
    ) -> DurableFuture[T]: ...

    def run(
        self,
        name: str,
        fn: Callable[..., Any],
        /,
        *args: Any,
        retry: RetryPolicy | None = None,
        on_unknown: OnUnknown = "retry",
        type: Any = None,
        **kwargs: Any,
    ) -> DurableFuture[Any]:
        """Run a step: a side effect whose result is recorded, so that it is not repeated.

        The step begins now; await it for its result. An async function runs on the event loop, any
        other one in a thread. It must not use durable verbs itself. Cancelling the future, or the
        invocation, cancels an async body.

        If the process dies while the body runs, or before its result is recorded, nobody knows
        whether it happened. `on_unknown` says what then: "retry" runs it again. All others cost a
        commit before the body begins, and the body begins once unless more is known: "fail" raises
        `TerminalError` at the await; "ask" waits for a person; a function is called with
        `hf.idempotency_key()` of the step and its arguments, and returns `hf.Happened(value)` or
        `hf.NotHappened()`. Exceptions of the body are known: `retry` is about them.

        Args:
            name: Part of the journal key: the same name may be used again, a name that is in the
                journal of an open invocation must not be changed.
            fn: What to run, with `*args` and `**kwargs`.
            retry: For failures of this step. None: the handler's policy.
            on_unknown: What to do when it began and its outcome was lost.
            type: Of the result, where the annotation of `fn` does not say it; or a `Serde`.

        Raises:
            TerminalError: At the await: raised by the body, its retries are used up, or HF0580,
                its outcome is unknown.
            UsageError: HF0504, there is no JSON for the type of the result.
        """
        branch = self._branch("run")
        if not callable(fn):
            raise UsageError(
                f"ctx.run({name!r}, …) takes a function and its arguments, not {fn!r}",
                code="HF0507",
                hint=f"Write ctx.run({name!r}, function, argument, …).",
            )
        if on_unknown != "retry":
            check_on_unknown(name, on_unknown)
        serde = serde_for(return_annotation(fn) if type is None else type)
        step = Step(name, fn, args, kwargs, serde, retry, on_unknown)
        return self._attempt.run(branch, step, call_site())

    def sleep(self, delay: Duration, name: str = "") -> DurableFuture[None]:
        """Sleep durably: seconds or years, without a process. `asyncio.sleep` does the same."""
        branch = self._branch("sleep")
        number = self._attempt.sleep(branch, name, milliseconds(delay, "delay"), call_site())
        return self._expect(number, nothing)

    # -- determinism ------------------------------------------------------------------------------

    def now(self) -> datetime:
        """Return the time of the latest result that was handed over, in UTC: the same on replay."""
        self._attempt.read_clock(self._branch("now"))
        return datetime.fromtimestamp(self._attempt.machine.now_ms / 1000, UTC)

    @property
    def random(self) -> Random:
        """Randomness that is the same on replay; every branch has its own."""
        branch = self._branch("random")
        if branch.random is None:
            branch.random = Random(f"{self._attempt.machine.start.random_seed}/{branch.path}")
        return branch.random

    def uuid(self) -> uuid.UUID:
        """Return a new version 4 UUID that is the same on replay."""
        return uuid.UUID(int=self.random.getrandbits(128), version=4)

    def patched(self, patch_id: str) -> bool:
        """Return whether this invocation takes the new way at a place where the program changed.

        True for invocations that had done nothing behind this place when the program changed, and
        for new ones; False for the others, which then ask for what they asked for before. The first
        answer for an id is that of the whole invocation. Remove the gate, and the old way with it,
        when no invocation that went the old way is open.

        Args:
            patch_id: Names the change. In a loop, put the turn into it if later turns may take the
                new way in an invocation whose earlier ones took the old one.

        Raises:
            UsageError: HF0507, the id is empty.
        """
        self._branch("patched")
        if not patch_id:
            raise UsageError("ctx.patched takes a name for the change", code="HF0507")
        return self._attempt.machine.sys_patched(patch_id, call_site())

    @contextmanager
    def scope(self, label: str) -> Generator[None]:
        """Open a branch with a stable label for the operations inside.

        Use it where order is not stable but an id is, such as that of a tool call: keys of
        operations inside do not depend on what happens outside.
        """
        branch = self._branch("scope")
        with entered(branch.child(label)):
            yield


def current() -> Context:
    """Return the context of the running invocation, anywhere below a handler.

    Raises:
        UsageError: HF0501 inside the body of a step, HF0502 outside of a handler.
    """
    branch = place.get()
    if type(branch) is Branch and branch.attempt is not None:
        branch.attempt.check_open()
        return branch.attempt.context
    raise_misplaced("hf.current()", branch)
