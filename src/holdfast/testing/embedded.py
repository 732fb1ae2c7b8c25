"""A whole engine inside a test: in this process, on this event loop, in virtual time.

Time stands still while anything happens, and while nobody waits. When a test waits for the result
of an invocation (`env.client.call`, `env.client.attach`) and nothing more can happen now, time
jumps to the next timer. Bodies of steps are real code: while one runs, time stands still.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime
from typing import Any

from holdfast.admin.export_view import view_recording
from holdfast.admin.journal_view import view_journal
from holdfast.domain.approval import ApprovalStatus
from holdfast.domain.errors import HoldfastError, NotFoundError, UsageError
from holdfast.domain.ids import awakeable_id
from holdfast.domain.message import Run
from holdfast.domain.recording import Recording
from holdfast.engine.row import Status
from holdfast.sdk.app import App
from holdfast.sdk.exchange import Exchange, Reply
from holdfast.sdk.journal import is_own
from holdfast.sdk.retry import Duration, milliseconds
from holdfast.sdk.verb import encode_value, serde_of
from holdfast.server.app import open_store
from holdfast.server.approval_port import Approval, Verdict
from holdfast.server.clock import SystemClock
from holdfast.server.embedded import EmbeddedClient
from holdfast.server.host import Host
from holdfast.storage.base import ApprovalFilter, InvocationFilter
from holdfast.testing.clock import VirtualClock
from holdfast.testing.crash import CrashPoint
from holdfast.testing.port import TestPort
from holdfast.testing.strict import Watch
from holdfast.transport.inprocess import InProcessPort

_logger = logging.getLogger(__name__)

_QUIET_TURNS = 4
"""Turns of the loop without a sign of life. Messages on their way show nothing for two."""
_BUSY_TURNS = 200
_POLL_S = 0.001
_PUZZLING_TURNS = 5_000
_STUCK_ROUNDS = 2_000
_NEVER_S = 1e9
_INBOX_ROWS_MAX = 10_000


class Environment:
    """What `environment` yields."""

    client: EmbeddedClient
    """A client with all its methods; see `hf.embedded`."""
    crashes: list[str]
    """What was crashed, in order: `after step 3 'charge' of inv_1…`."""

    def __init__(
        self, host: Host, port: TestPort, clock: VirtualClock, *, is_jumping: bool
    ) -> None:
        self.client = _Client(self, host)
        self.crashes = port.crashes.done
        self._host = host
        self._port = port
        self._clock = clock
        self._is_jumping = is_jumping
        self._waiting = 0
        self._asking = 0
        self._advancing = 0
        self._requests = 0
        self._wanted = asyncio.Event()
        """Set while somebody waits and time may jump."""
        self._problem: asyncio.Future[HoldfastError] = asyncio.get_running_loop().create_future()
        self._is_problem_told = False
        port.on_problem = self.report

    # -- time -------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """What time it is, in UTC. In handlers it is `ctx.now()`."""
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)

    async def advance(self, duration: Duration) -> None:
        """Let time pass: a `timedelta`, or seconds. All that is due happens, in order."""
        end_ms = self._clock.now_ms() + milliseconds(duration, "duration")
        self._advancing += 1
        try:
            while True:
                await self.settle()
                next_ms = self._clock.next_ms()
                if next_ms is None or next_ms > end_ms:
                    break
                self._clock.move_to(next_ms)
            self._clock.move_to(end_ms)
            await self.settle()
        finally:
            self._advancing -= 1

    async def settle(self) -> None:
        """Wait until all that can happen without time passing has happened.

        Waits for bodies of steps that run. Raises what a waiting call would raise: see `HF0551`.
        """
        turns = quiet = seen = 0
        while quiet < _QUIET_TURNS:
            self._raise_problem()
            # Real work, such as a step that talks to somebody, is looked after now and then.
            await asyncio.sleep(0 if turns < _BUSY_TURNS else _POLL_S)
            turns += 1
            if turns == _PUZZLING_TURNS:
                _logger.warning(
                    "time stands still: a step takes long, or a handler waits for something that "
                    "is not durable: %s",
                    ", ".join(self._port.busy()),
                )
            is_idle = not self._asking and self._host.is_idle and self._port.is_idle
            quiet = quiet + 1 if is_idle and seen == self._requests else 0
            seen = self._requests

    async def keep_time(self) -> None:
        """Jump to the next timer when somebody waits and nothing else happens. Runs for ever."""
        stuck = 0
        while True:
            await self._wanted.wait()
            with contextlib.suppress(HoldfastError):
                await self.settle()
            if not self._waiting or self._advancing:
                stuck = 0
                await asyncio.sleep(_POLL_S)
                continue
            next_ms = self._clock.next_ms()
            if next_ms is not None:
                stuck = 0
                self._clock.move_to(next_ms)
                continue
            await self._look_for_paused()
            stuck += 1
            if stuck == _STUCK_ROUNDS:
                await self._warn_of_stuck()
            await asyncio.sleep(_POLL_S)

    async def _warn_of_stuck(self) -> None:
        """Say for what nothing but the test itself can be waiting."""
        query = InvocationFilter(statuses=(Status.SUSPENDED,))
        rows = await self._host.invocations(query, None, 3)
        _logger.warning(
            "nothing more happens by itself: invocations wait for an awakeable, a signal or a "
            "promise that the test has to complete from another task: %s",
            ", ".join(f"{row.id} of {row.target}" for row in rows),
        )

    async def _look_for_paused(self) -> None:
        """Fail the test if it waits for what only an operator would move."""
        query = InvocationFilter(statuses=(Status.PAUSED,))
        for row in await self._host.invocations(query, None, 1):
            why = "" if row.last_failure is None else f" after: {row.last_failure.message}"
            self.report(
                HoldfastError(
                    f"{row.id} of {row.target} is paused{why}",
                    code="HF0551",
                    hint="Nothing will move it in this test. Mend the handler, or give it a retry "
                    'policy that ends it: on_max_attempts="kill".',
                )
            )

    # -- crashes ----------------------------------------------------------------------------------

    def crash_at(self, point: str, *, every: bool = False) -> None:
        """Crash an attempt at a place; another attempt goes on from the journal.

        Args:
            point: `WHEN:WHAT`. WHEN is `before` (nothing of the operation is recorded), `during` (a
                step whose body has run, and whose result is lost: it will run again), or `after`
                (it is recorded, and the handler has not gone on). WHAT is a kind of operation
                (`step`, `sleep`, `call`, `send`, `set`, …, `output`), a kind and a number from 1
                (`step 3`, counted in each invocation), or a name: of a step, `Service/handler` of a
                call, of a state entry.
            every: Crash at each operation that fits, instead of at the first one.

        Raises:
            UsageError: HF0550, not a place. At the end of the environment: it was never reached.
        """
        self._port.crashes.points.append(CrashPoint(point, is_every=every))

    # -- looking ----------------------------------------------------------------------------------

    async def journal(
        self, invocation_id: str, *, payload_size_max: int = 65_536
    ) -> list[dict[str, object]]:
        """Return the entries of a journal, in order, as `holdfast invocations journal` shows them.

        Each has `index`, `kind` (`Command: Run`, `Notification: Run`, …) and its fields; results
        are under `payload` or `failure`.
        """
        return view_journal(await self._host.journal(invocation_id), payload_size_max)

    async def steps(self, invocation_id: str) -> list[str]:
        """Return the names of the steps of an invocation, in the order in which they began."""
        entries = [row.entry for row in await self._host.journal(invocation_id)]
        runs = [entry for entry in entries if isinstance(entry, Run)]
        return [run.name for run in runs if not is_own(run.key)]

    async def recording(self, invocation_id: str) -> Recording:
        """Return what `replay` needs to try an invocation against other code.

        Raises:
            NotFoundError: HF1004, there is no such invocation.
        """
        row = await self._host.invocation(invocation_id)
        if row is None:
            raise NotFoundError(f"There is no invocation {invocation_id}.", code="HF1004")
        journal = await self._host.journal(invocation_id)
        return view_recording(row, journal, has_secrets=True)

    # -- people -----------------------------------------------------------------------------------

    async def approvals(self) -> list[Approval]:
        """Return the approvals that nobody has decided, in the order in which they were asked for.

        What can happen without time passing happens first.
        """
        await self.settle()
        inbox = ApprovalFilter((ApprovalStatus.OPEN,))
        found = await self._host.approvals.find(inbox, None, _INBOX_ROWS_MAX)
        ids = [awakeable_id(each.invocation_id, each.signal_index) for each in reversed(found)]
        return [await self._host.approvals.get(approval_id) for approval_id in ids]

    async def decide(
        self,
        approval_id: str,
        approved: bool,
        *,
        value: object = None,
        arguments: dict[str, object] | None = None,
        by: str = "",
        comment: str = "",
    ) -> None:
        """Decide an approval, as a person would.

        Args:
            approval_id: Its id: `approval.id` in the handler, or one of `approvals`.
            approved: Or rejected.
            value: Fills in the form; anything that has JSON.
            arguments: Those that are changed.
            by: Who decides.
            comment: Why.

        Raises:
            NotFoundError: HF1410, there is no such approval.
            UsageError: HF1412, what is filled in does not fit.
            ConflictError: HF1411, it is decided already.
        """
        verdict = Verdict(
            approved,
            None if value is None else encode_value(serde_of(value, None), value, "The value"),
            None if arguments is None else json.dumps(arguments).encode(),
            by,
            comment,
        )
        with self.asking():
            await self._host.approvals.decide(approval_id, verdict)

    # -- problems ---------------------------------------------------------------------------------

    def report(self, error: HoldfastError) -> None:
        """Fail the test: whoever waits for a result gets this error. The first one counts."""
        if not self._problem.done():
            self._problem.set_result(error)

    def _raise_problem(self) -> None:
        if self._problem.done():
            self._is_problem_told = True
            raise self._problem.result()

    def check(self) -> None:
        """Raise a problem that nobody was told of, and complain about places never reached."""
        if not self._is_problem_told:
            self._raise_problem()
        missed = [point.text for point in self._port.crashes.points if not point.has_hit]
        if missed:
            raise UsageError(
                f"Nothing was crashed at {', '.join(map(repr, missed))}",
                code="HF0550",
                hint="No operation of the test was that one: look at env.journal(…).",
            )

    # -- the client calls -------------------------------------------------------------------------

    @contextlib.contextmanager
    def asking(self) -> Generator[None]:
        """A client asks something that is answered at once."""
        self._asking += 1
        try:
            yield
        finally:
            self._asking -= 1

    @contextlib.contextmanager
    def waiting(self) -> Generator[asyncio.Future[HoldfastError]]:
        """A client waits for an invocation: time may jump."""
        self._waiting += 1
        self._requests += 1
        if self._is_jumping:
            self._wanted.set()
        try:
            yield self._problem
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._wanted.clear()
            if self._problem.done():
                self._is_problem_told = True


class _Client(EmbeddedClient):
    """A client whose waiting moves time."""

    def __init__(self, environment: Environment, host: Host) -> None:
        super().__init__(host)
        self._environment = environment

    async def _exchange(self, exchange: Exchange) -> Reply:
        if exchange.verb not in ("call", "attach"):
            with self._environment.asking():
                return await super()._exchange(exchange)
        with self._environment.waiting() as problem:
            reply = asyncio.ensure_future(super()._exchange(exchange))
            awaited: list[asyncio.Future[Any]] = [reply, problem]
            try:
                await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
                if not reply.done():
                    raise problem.result()
                return await reply
            finally:
                if not reply.done():
                    reply.cancel()
                    await asyncio.wait({reply})


@contextlib.asynccontextmanager
async def environment(
    app: App,
    *,
    store: str = "memory:",
    start: datetime | None = None,
    autojump: bool = True,
    always_replay: bool = False,
    strict: bool = False,
) -> AsyncGenerator[Environment]:
    """Run an app and its server for a test, in this process and in virtual time.

    Invocations that have ended are kept until the end: their retention does not matter here.

    Args:
        app: The handlers.
        store: `memory:`, or `sqlite:PATH` to go on in another environment.
        start: What time it is at first, with a time zone. None: what it is outside.
        autojump: Whether time jumps to the next timer when a client waits for an invocation and
            nothing else can happen. Without it only `advance` moves it.
        always_replay: End the attempt at each wait, and replay the handler from its journal. Finds
            what is not deterministic.
        strict: Fail when the code of a handler, outside of steps, reads a clock, draws randomness,
            or opens a file or a connection (HF0552). Slow; it uses the profile hook of this thread.

    Yields:
        The environment; `client` calls the handlers.

    Raises:
        JournalMismatch: From waiting calls: a handler did something else than its journal says.
        HoldfastError: From waiting calls: HF0551, what they wait for is paused.
        UsageError: HF0552, see `strict`; HF0550, at the end: a crash place was never reached.
        StorageError: The store cannot be used.
    """
    if start is not None and start.tzinfo is None:
        raise UsageError("start= of a test environment needs a time zone", code="HF0507")
    begin_ms = SystemClock().now_ms() if start is None else int(start.timestamp() * 1000)
    clock = VirtualClock(begin_ms)
    opened = open_store(store, partition_count=1)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(opened.close)
        await opened.open()
        host = Host(
            opened,
            clock,
            owner="test",
            inactivity_timeout_ms=0 if always_replay else None,
            cleanup_interval_s=_NEVER_S,
        )
        await host.start()
        stack.push_async_callback(host.stop)
        stack.callback(setattr, app, "clock", app.clock)
        app.clock = clock.now_ms
        port = TestPort(app)
        env = Environment(host, port, clock, is_jumping=autojump)
        if strict:
            stack.enter_context(Watch(env.report))
        await host.attach_worker(InProcessPort(port))
        timekeeper = asyncio.get_running_loop().create_task(env.keep_time())
        stack.push_async_callback(_stopped, timekeeper)
        yield env
        env.check()


async def _stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
