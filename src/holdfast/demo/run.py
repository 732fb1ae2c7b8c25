"""Runs the demo: server, scripted model and worker, and the show that proves what they promise.

The crash is real. As soon as the journal holds the first step of the weather agent, its process
gets SIGKILL; the journal and the model's own count of calls then tell what was done twice: nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, TypeVar

import click

from holdfast.cli.child import Child, Start, Supervisor
from holdfast.cli.client import Server as Door
from holdfast.cli.output import clean, note
from holdfast.cli.port import listener_on
from holdfast.cli.problem import CommandError, ExitCode
from holdfast.cli.process import on_stop_signals
from holdfast.cli.serving import died, serve_with_child, serving, start_unless_stopped
from holdfast.demo.scenarios import MODEL_NAME, SCENARIOS
from holdfast.domain.message import KIND_RUN, Command, Completion, Run, Value
from holdfast.server.config import Address, parse_address
from holdfast.storage.base import InvocationFilter
from holdfast.testing.scripted_model import ScriptedModel

if TYPE_CHECKING:
    from holdfast.domain.message import Entry
    from holdfast.engine.row import InvocationRow
    from holdfast.server.app import Server

T = TypeVar("T")

_APP = "holdfast.demo.agents:app"
_WEATHER = "What is the weather like in San Francisco?"
_CLAIM = "My bike was stolen in front of the library. Please pay 900 euros."
_PATIENCE_S = 60.0
_PORT_TRIES = 50
_REVIEW_STEP = "request review"


async def run_demo(
    *, ingress: str, admin: str, store: str, durability: str, is_once: bool
) -> int:
    """Run the demo until it is stopped, or until the show is over.

    Returns:
        The exit code of the process.

    Raises:
        HoldfastError: The server cannot be started, or the show went wrong.
    """
    stop = asyncio.Event()
    on_stop_signals(stop.set)
    ingress_at, admin_at = _free_pair(
        parse_address(ingress, "--ingress"), parse_address(admin, "--admin")
    )
    with ScriptedModel(SCENARIOS) as model:
        async with serving(
            ingress=str(ingress_at), admin=str(admin_at), store=store, durability=durability
        ) as running:
            _print_head(running, model, store)
            supervisor = Supervisor(
                [_APP, f"--connect={running.admin_url}", "--log-level=warning"],
                lambda line: click.echo(f"  {line}"),
                _environment(model),
                is_watched=False,
            )
            result = await start_unless_stopped(supervisor, stop)
            if result is None:
                return ExitCode.OK
            if result is not Start.READY:
                raise died(supervisor)
            show = asyncio.ensure_future(_Show(running, model, supervisor).run())
            show.add_done_callback(lambda _: stop.set() if is_once or _failed(show) else None)
            try:
                await serve_with_child(running, supervisor, stop)
            finally:
                show.cancel()
                await asyncio.gather(show, return_exceptions=True)
            if not show.cancelled():
                show.result()
    note("Stopped. What has not finished goes on at the next start.")
    return ExitCode.OK


class _Show:
    """What the demo proves, one act after another."""

    def __init__(self, running: Server, model: ScriptedModel, supervisor: Supervisor) -> None:
        self._running = running
        self._host = running.host
        self._model = model
        self._supervisor = supervisor
        self._door = Door(running.ingress_url, "--ingress")

    async def run(self) -> None:
        """Show everything, then say what to try."""
        weather_id = await self._show_crash()
        awakeable_id = await self._show_approval()
        _print_hints(self._running, weather_id, awakeable_id)

    async def _show_crash(self) -> str:
        click.echo(f"\n1. A crash. WeatherAgent is asked: {_WEATHER}\n")
        invocation_id = await self._send("WeatherAgent/run", _WEATHER)
        first = await self._until(lambda: self._first_step(invocation_id))
        child = self._supervisor.current
        assert child is not None, "the worker was ready"
        # At once: the step is on record, and the next model call must not have begun.
        child.kill()
        click.echo(f"  {invocation_id}")
        click.echo(
            f"  The step {clean(first)!r} was recorded, and the worker, process {child.pid}, was"
            " killed with SIGKILL."
        )
        await child.ended
        await self._until(lambda: self._is_lost(invocation_id))
        before = len(await self._host.journal(invocation_id))
        successor = await self._until(lambda: self._successor(child))
        click.echo(f"  Process {successor.pid} goes on where the journal ends.\n")
        answer = await asyncio.to_thread(
            self._door.get, f"/restate/invocation/{invocation_id}/attach", timeout_s=_PATIENCE_S
        )
        await self._print_journal(invocation_id, before)
        click.echo(f"\n  Answer: {clean(json.loads(answer.body))}")
        self._print_count(await self._recorded_answers(invocation_id))
        return invocation_id

    async def _show_approval(self) -> str:
        click.echo("\n2. An approval. ClaimAgent asks a person before it pays.\n")
        waiting = await self._waiting_claim()
        if waiting is None:
            invocation_id = await self._send("ClaimAgent/evaluate", _CLAIM)
        else:
            invocation_id = waiting.id
            click.echo("  It waits since an earlier start of this demo.")
        awakeable_id = await self._until(lambda: self._review_of(invocation_id))
        click.echo(f"  {invocation_id}")
        click.echo("  It waits for a decision: for a minute, or for a month. To approve it:\n")
        click.echo(
            f"    curl {self._running.ingress_url}/restate/awakeables/{awakeable_id}/resolve"
            """ --json '{"approved": true}'"""
        )
        click.echo(f"    holdfast attach {invocation_id}{self._ingress_option()}")
        return awakeable_id

    async def _send(self, target: str, prompt: str) -> str:
        answer = await asyncio.to_thread(
            self._door.ask,
            "POST",
            f"/{target}/send",
            body=json.dumps({"prompt": prompt}).encode(),
            headers={"content-type": "application/json"},
        )
        return str(answer.json()["invocationId"])

    async def _until(self, find: Callable[[], Awaitable[T | None]]) -> T:
        """Ask again and again until there is an answer."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while (found := await find()) is None:
                    await asyncio.sleep(0.001)
                return found
        except TimeoutError:
            raise CommandError(
                f"The demo did not get on within {_PATIENCE_S:.0f} s",
                code="HF1231",
                exit_code=ExitCode.TIMEOUT,
                hint="Look at standard error above: did the worker say what it misses?",
            ) from None

    async def _first_step(self, invocation_id: str) -> str | None:
        entries = [row.entry for row in await self._host.journal(invocation_id)]
        done = next((e for e in entries if isinstance(e, Completion) and e.kind == KIND_RUN), None)
        if done is None:
            return None
        return next(
            e.name for e in entries if isinstance(e, Run) and e.completion_id == done.completion_id
        )

    async def _is_lost(self, invocation_id: str) -> bool | None:
        row = await self._host.invocation(invocation_id)
        assert row is not None, "it was made a moment ago"
        return True if row.retry_count or row.attempt > 1 else None

    async def _successor(self, dead: Child) -> Child | None:
        current = self._supervisor.current
        return current if current is not None and current is not dead else None

    async def _waiting_claim(self) -> InvocationRow | None:
        query = InvocationFilter(service="ClaimAgent")
        rows = await self._host.invocations(query, None, 20)
        return next((row for row in rows if not row.completed_at_ms), None)

    async def _review_of(self, invocation_id: str) -> str | None:
        entries = [row.entry for row in await self._host.journal(invocation_id)]
        step = next((e for e in entries if isinstance(e, Run) and e.name == _REVIEW_STEP), None)
        result = None if step is None else _result_of(step, entries)
        return None if result is None else str(json.loads(result)["awakeable_id"])

    async def _recorded_answers(self, invocation_id: str) -> int:
        """Count the model's answers in a journal."""
        entries = [row.entry for row in await self._host.journal(invocation_id)]
        steps = [entry for entry in entries if isinstance(entry, Run)]
        return sum(1 for step in steps if _is_model_call(step) and _result_of(step, entries))

    async def _print_journal(self, invocation_id: str, before: int) -> None:
        row = await self._host.invocation(invocation_id)
        assert row is not None, "its retention is a day"
        click.echo("    #  attempt  entry")
        for entry in await self._host.journal(invocation_id):
            attempt = 1 if entry.index < before else row.attempt
            click.echo(f"  {entry.index:>3}  {attempt:>7}  {_title_of(entry.entry)}")

    def _print_count(self, recorded: int) -> None:
        asked = sum(call.request.prompt == _WEATHER for call in self._model.calls(MODEL_NAME))
        verdict = "nothing was paid for twice"
        if asked != recorded:
            verdict = "what was under way when the process died was asked again, nothing else"
        click.echo(f"  The model was asked {asked} times for {recorded} recorded answers: {verdict}.")

    def _ingress_option(self) -> str:
        return _option("--ingress", self._running.ingress_url, "http://127.0.0.1:8080")


def _title_of(entry: Entry) -> str:
    if isinstance(entry, Completion):
        return f"  ✓ result {entry.completion_id}"
    name = getattr(entry, "name", "") if isinstance(entry, Command) else ""
    number = getattr(entry, "completion_id", None)
    title = type(entry).__name__ + (f" {name!r}" if name else "")
    return clean(title) + (f"  → {number}" if number is not None else "")


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


def _is_model_call(step: Run) -> bool:
    return MODEL_NAME in step.name or "model" in step.name.lower()


def _failed(show: asyncio.Future[None]) -> bool:
    return not show.cancelled() and show.exception() is not None


def _environment(model: ScriptedModel) -> Mapping[str, str]:
    """Return the environment of the worker: with the scripted model, and without a real one."""
    environment = {**os.environ, "HOLDFAST_SCRIPTED_MODEL_URL": model.url}
    if not environment.get("HOLDFAST_MODEL"):
        # A key that lies around is no permission to spend money on a demo.
        environment.pop("OPENAI_API_KEY", None)
        environment["OPENAI_AGENTS_DISABLE_TRACING"] = "1"
    return environment


def _free_pair(ingress: Address, admin: Address) -> tuple[Address, Address]:
    """Return two addresses that are free: these, or the next pair."""
    for step in range(_PORT_TRIES):
        pair = tuple(
            Address(each.host, each.port + step if each.port else 0) for each in (ingress, admin)
        )
        taken = [each for each in pair if each.port and not _is_free(each)]
        if not taken:
            return pair[0], pair[1]
        if step == 0:
            for each in taken:
                owner = listener_on(each.port)
                note(f"{each} is taken{f' by {owner}' if owner else ''}.")
    # All are taken: the server will say so, with the addresses that were asked for.
    return ingress, admin


def _is_free(address: Address) -> bool:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError:
            return False
    return True


def _print_head(running: Server, model: ScriptedModel, store: str) -> None:
    click.echo(f"holdfast {metadata.version('holdfast')}  demo, data in {store}\n")
    click.echo(f"  Ingress   {running.ingress_url}")
    click.echo(f"  Admin     {running.admin_url}")
    click.echo(f"  Model     {MODEL_NAME} at {model.url}: scripted, no key and no network needed")


def _print_hints(running: Server, weather_id: str, awakeable_id: str) -> None:
    ingress = _option("--ingress", running.ingress_url, "http://127.0.0.1:8080")
    admin = _option("--admin", running.admin_url, "http://127.0.0.1:9070")
    prompt = """'{"prompt": "What is the weather like in Oslo and in Rome?"}'"""
    click.echo("\nTry\n")
    click.echo(f"    curl {running.ingress_url}/WeatherAgent/run --json {prompt}")
    click.echo(f"    holdfast call WeatherAgent/run {prompt}{ingress}")
    click.echo(f"    holdfast invocations ls{admin}")
    click.echo(f"    holdfast invocations get {weather_id}{admin}")
    click.echo(f"    holdfast invocations journal {weather_id}{admin}")
    click.echo("\nCtrl-C stops. What has not finished goes on at the next start.")


def _option(name: str, url: str, default: str) -> str:
    return "" if url == default else f" {name} {url.removeprefix('http://')}"
