"""The show of the demo: a crash in the middle of an agent, and an agent that waits for a person.

The crash is real. As soon as the journal holds the first step of the weather agent, its process
gets SIGKILL; the journal and the model's own count of calls then tell what was done twice: nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from holdfast.demo.scenarios import MODEL_NAME
from holdfast.domain.errors import HoldfastError, TerminalError
from holdfast.domain.message import KIND_RUN, Completion, Entry, Run, Value
from holdfast.engine.row import InvocationRow
from holdfast.sdk.http_client import Client
from holdfast.server.app import Server
from holdfast.storage.base import InvocationFilter
from holdfast.testing.scripted_model import ScriptedModel

T = TypeVar("T")

WEATHER_PROMPT = "What is the weather like in San Francisco?"
CLAIM_PROMPT = "My bike was stolen in front of the library. Please pay 900 euros."

_PATIENCE_S = 60.0
_POLL_S = 0.001
"""The process is to die before it begins its next model call, so we look very often."""
_CLAIMS_LOOKED_AT_MAX = 20
_MODEL_STEP = "model call"
_REVIEW_STEP = "request review"


class Workers(Protocol):
    """The processes that run the agents: one at a time, and a new one when it dies."""

    @property
    def pid(self) -> int | None:
        """Process id of the one that serves; None while there is none."""
        ...

    async def kill(self) -> None:
        """Kill the one that serves, at once, and return when it has ended."""
        ...


class Show:
    """What the demo proves, one act after another.

    Args:
        server: A running server, to which the sample agents are connected.
        model: What the agents ask.
        workers: What runs the agents.
        say: Shows a line to the person.
        options: Of client commands, to find this server: for the ingress, and for the admin API.
    """

    def __init__(
        self,
        server: Server,
        model: ScriptedModel,
        workers: Workers,
        say: Callable[[str], None],
        options: tuple[str, str] = ("", ""),
    ) -> None:
        self._server = server
        self._host = server.host
        self._model = model
        self._workers = workers
        self._say = say
        self._ingress_option, self._admin_option = options

    async def run(self) -> None:
        """Show everything, then say what to try.

        Raises:
            HoldfastError: HF1231, it did not go as it should.
        """
        async with Client(self._server.ingress_url) as client:
            try:
                weather_id = await self._show_crash(client)
                await self._show_approval(client)
            except TerminalError as error:
                raise HoldfastError(f"An agent failed: {error}", code="HF1231") from error
        self._say_hints(weather_id)

    # -- the crash -------------------------------------------------------------------------------

    async def _show_crash(self, client: Client) -> str:
        say = self._say
        say(f"\n1. A crash. WeatherAgent is asked: {WEATHER_PROMPT}\n")
        sent = await client.send("WeatherAgent/run", {"prompt": WEATHER_PROMPT})
        invocation_id = sent.invocation_id
        step = await self._until(lambda: self._first_step(invocation_id), invocation_id)
        pid = self._workers.pid
        await self._workers.kill()
        say(f"  {invocation_id}")
        say(f"  The step {step!r} was recorded, and process {pid} was killed with SIGKILL.")
        await self._until(lambda: self._is_lost(invocation_id), invocation_id)
        length = len(await self._host.journal(invocation_id))
        successor = await self._until(lambda: self._successor(pid), invocation_id)
        say(f"  Process {successor} goes on where the journal ends.\n")
        async with asyncio.timeout(_PATIENCE_S):
            answer = await client.attach(invocation_id)
        entries = await self._entries(invocation_id)
        await self._say_journal(invocation_id, entries, length)
        say(f"\n  Answer: {json.dumps(answer, ensure_ascii=False)}")
        self._say_count(entries)
        return invocation_id

    async def _first_step(self, invocation_id: str) -> str | None:
        """Return the name of a step whose result is recorded."""
        entries = await self._entries(invocation_id)
        steps = [each for each in entries if isinstance(each, Run)]
        return next((each.name for each in steps if _result_of(each, entries) is not None), None)

    async def _is_lost(self, invocation_id: str) -> bool | None:
        """Tell when the engine knows that the process is gone."""
        row = await self._host.invocation(invocation_id)
        assert row is not None, "it was made a moment ago"
        return True if row.retry_count or row.attempt > 1 else None

    async def _successor(self, pid: int | None) -> int | None:
        return self._workers.pid if self._workers.pid != pid else None

    async def _say_journal(
        self, invocation_id: str, entries: Sequence[Entry], length_before: int
    ) -> None:
        row = await self._host.invocation(invocation_id)
        assert row is not None, "its retention is a day"
        self._say("    #  attempt  entry")
        for index, entry in enumerate(entries):
            attempt = 1 if index < length_before else row.attempt
            self._say(f"  {index:>3}  {attempt:>7}  {_title_of(entry)}")

    def _say_count(self, entries: Sequence[Entry]) -> None:
        steps = [each for each in entries if isinstance(each, Run) and each.name == _MODEL_STEP]
        recorded = sum(_result_of(step, entries) is not None for step in steps)
        calls = self._model.calls(MODEL_NAME)
        asked = sum(call.request.prompt == WEATHER_PROMPT for call in calls)
        verdict = "nothing was paid for twice"
        if asked != recorded:
            verdict = "what was under way when the process died was asked again, nothing else"
        counts = f"asked {asked} times for {recorded} recorded answers"
        self._say(f"  The model was {counts}: {verdict}.")

    # -- the approval ----------------------------------------------------------------------------

    async def _show_approval(self, client: Client) -> None:
        say = self._say
        say("\n2. An approval. ClaimAgent asks a person before it pays.\n")
        waiting = await self._waiting_claim()
        if waiting is not None:
            say("  It waits since an earlier start of this demo.")
            invocation_id = waiting.id
        else:
            sent = await client.send("ClaimAgent/evaluate", {"prompt": CLAIM_PROMPT})
            invocation_id = sent.invocation_id
        awakeable_id = await self._until(lambda: self._review_of(invocation_id), invocation_id)
        url = f"{self._server.ingress_url}/restate/awakeables/{awakeable_id}/resolve"
        say(f"  {invocation_id}")
        say("  It waits for a decision: for a minute, or for a month. To approve it:\n")
        say(f"""    curl {url} --json '{{"approved": true}}'""")
        say(f"    holdfast attach {invocation_id}{self._ingress_option}")

    async def _waiting_claim(self) -> InvocationRow | None:
        query = InvocationFilter(service="ClaimAgent")
        rows = await self._host.invocations(query, None, _CLAIMS_LOOKED_AT_MAX)
        return next((row for row in rows if not row.completed_at_ms), None)

    async def _review_of(self, invocation_id: str) -> str | None:
        """Return the id under which a claim's review is decided, once it is asked for."""
        entries = await self._entries(invocation_id)
        for step in entries:
            if isinstance(step, Run) and step.name == _REVIEW_STEP:
                result = _result_of(step, entries)
                return None if result is None else str(json.loads(result)["awakeable_id"])
        return None

    # -- both ------------------------------------------------------------------------------------

    async def _entries(self, invocation_id: str) -> list[Entry]:
        return [row.entry for row in await self._host.journal(invocation_id)]

    async def _until(self, find: Callable[[], Awaitable[T | None]], invocation_id: str) -> T:
        """Ask again and again until there is an answer about an invocation."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + _PATIENCE_S
        while (found := await find()) is None:
            if loop.time() > deadline_s:
                row = await self._host.invocation(invocation_id)
                failure = None if row is None else row.last_failure
                said = "" if failure is None else f"; its last attempt failed: {failure.message}"
                raise HoldfastError(
                    f"{invocation_id} did not get on within {_PATIENCE_S:.0f} s{said}",
                    code="HF1231",
                    hint="Look at what the worker wrote to standard error.",
                )
            await asyncio.sleep(_POLL_S)
        return found

    def _say_hints(self, weather_id: str) -> None:
        say, ingress, admin = self._say, self._ingress_option, self._admin_option
        prompt = """'{"prompt": "What is the weather like in Oslo and in Rome?"}'"""
        say("\nTry\n")
        say(f"    curl {self._server.ingress_url}/WeatherAgent/run --json {prompt}")
        say(f"    holdfast call WeatherAgent/run {prompt}{ingress}")
        say(f"    holdfast invocations ls{admin}")
        say(f"    holdfast invocations get {weather_id}{admin}")
        say(f"    holdfast invocations journal {weather_id}{admin}")
        say("\nCtrl-C stops. What has not finished goes on at the next start.")


def _title_of(entry: Entry) -> str:
    if isinstance(entry, Completion):
        return f"  ✓ result {entry.completion_id}"
    name = getattr(entry, "name", "") or ""
    number = getattr(entry, "completion_id", None)
    title = type(entry).__name__ + (f" {name!r}" if name else "")
    return title + (f"  → {number}" if number is not None else "")


def _result_of(step: Run, entries: Sequence[Entry]) -> bytes | None:
    for entry in entries:
        if (
            isinstance(entry, Completion)
            and entry.kind == KIND_RUN
            and entry.completion_id == step.completion_id
            and isinstance(entry.result, Value)
        ):
            return entry.result.content
    return None
