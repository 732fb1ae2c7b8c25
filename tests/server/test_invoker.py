"""Attempts as the invoker carries them, with a handler's end that is played by hand."""

from __future__ import annotations

from typing import Any

from holdfast.domain.message import SIGNAL_CANCEL, ProposeRunCompletion, Run, Signal, Value, Void
from holdfast.engine.row import Status
from holdfast.server.host import Host
from holdfast.storage.memory import MemoryStore
from tests.server.harness import ScriptedAttempt, ScriptedPort, hosting, request, until


async def begun(host: Host, port: ScriptedPort) -> tuple[str, ScriptedAttempt]:
    answer = await host.send(request(host))
    await until(lambda: port.attempts)
    return answer.invocation_id, port.attempts[0]


async def test_a_cancellation_that_an_attempt_cannot_hear_begins_the_next_one() -> None:
    port = ScriptedPort()
    async with hosting(MemoryStore(), port) as host:
        invocation_id, first = await begun(host, port)
        first.say(Run(1, "step"))
        await host.signal(invocation_id, Signal(Void(), index=SIGNAL_CANCEL))
        await until(lambda: first.notified)
        stream: Any = first.stream
        stream.on_unheard()
        # Too late to count: the next attempt is under way.
        first.say(ProposeRunCompletion(1, Value(b"1")))
        await until(lambda: len(port.attempts) == 2)
        assert first.is_aborted
        second = port.attempts[1]
        kinds = [type(entry).__name__ for entry in second.entries]
        assert kinds == ["Input", "Run", "Signal"]
        last = second.entries[-1]
        assert isinstance(last, Signal)
        assert last.index == SIGNAL_CANCEL
        row = await host.invocation(invocation_id)
        assert row is not None
        assert (row.status, row.last_failure, row.stale_retry_count) == (Status.RUNNING, None, 0)
        assert host.health()["attempts_open"] == 1


async def test_an_attempt_that_has_ended_is_not_begun_again() -> None:
    port = ScriptedPort()
    async with hosting(MemoryStore(), port) as host:
        invocation_id, first = await begun(host, port)
        stream: Any = first.stream
        first.finish()
        stream.on_unheard()
        assert (await host.attach(invocation_id)).outcome == Value(b"1")
        row = await host.invocation(invocation_id)
        assert row is not None
        assert row.status is Status.COMPLETED
        assert len(port.attempts) == 1
