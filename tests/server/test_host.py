"""Partitions, attempts, timers and retention together, over a memory store."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.domain.errors import (
    NotFoundError,
    StorageError,
    StorageUnavailable,
    Unstorable,
    UsageError,
)
from holdfast.domain.ids import key_partition_key, partition_of
from holdfast.domain.message import (
    KIND_RUN,
    SIGNAL_CANCEL,
    Completion,
    Failure,
    Input,
    OneWayCall,
    Output,
    ProposeRunCompletion,
    Run,
    SetState,
    Signal,
    Sleep,
    Suspension,
    Value,
    Void,
)
from holdfast.domain.target import Manifest, ServiceKind, ServiceManifest
from holdfast.engine.decision import Batch, Reply
from holdfast.engine.row import StateRow, Status
from holdfast.server import invoker as invoker_module
from tests.server.harness import CountingStore, ScriptedPort, hosting, request, until


async def test_a_call_is_answered_with_the_output() -> None:
    port = ScriptedPort()
    port.on_open = lambda attempt: attempt.finish(b"7")
    async with hosting(CountingStore(), port) as host:
        finished = await host.call(request(host))
        assert finished.outcome == Value(b"7")
        assert (await host.output(finished.invocation_id)) is not None


async def test_an_answer_comes_after_the_commit_that_holds_it() -> None:
    store, port = CountingStore(), ScriptedPort()
    port.on_open = lambda attempt: attempt.finish()
    async with hosting(store, port) as host:
        await host.call(request(host))
        stored = [entry.entry for batch in store.batches for entry in batch.journal]
        assert Output(Value(b"1")) in stored


async def test_a_new_call_and_its_quick_answer_share_a_commit() -> None:
    store, port = CountingStore(), ScriptedPort()
    port.on_open = lambda attempt: attempt.finish()
    async with hosting(store, port) as host:
        await host.call(request(host))
        assert len(store.batches) == 1


async def test_a_notification_is_forwarded_only_once_it_is_stored() -> None:
    store, port = CountingStore(), ScriptedPort()
    async with hosting(store, port) as host:
        await host.send(request(host))
        await until(lambda: port.attempts)
        attempt = port.attempts[0]
        attempt.say(Run(1), ProposeRunCompletion(1, Value(b"x")))
        assert attempt.notified == []
        await until(lambda: attempt.notified)
        stored = [entry.entry for batch in store.batches for entry in batch.journal]
        assert attempt.notified[0] in stored


async def test_a_failed_commit_stops_the_partition_and_answers_nobody() -> None:
    store, port = CountingStore(), ScriptedPort()
    fatal: list[BaseException] = []
    port.on_open = lambda attempt: attempt.finish()
    async with hosting(store, port, on_fatal=fatal.append) as host:
        store.failure = StorageError("the disk is gone", code="HF4108")
        with pytest.raises(StorageError, match="the disk is gone"):
            await host.call(request(host))
        assert len(fatal) == 1
        with pytest.raises(StorageUnavailable, match="not led here"):
            await host.send(request(host))


async def test_a_restart_goes_on_where_the_journal_ends() -> None:
    store, port = CountingStore(), ScriptedPort()
    async with hosting(store, port) as host:
        accepted = await host.send(request(host))
        await until(lambda: port.attempts)
        port.attempts[0].say(Run(1, "pay"), ProposeRunCompletion(1, Value(b"9")))
        await until(lambda: port.attempts[0].notified)
    again = ScriptedPort()
    async with hosting(store, again) as host:
        await until(lambda: again.attempts)
        attempt = again.attempts[0]
        assert attempt.start.attempt == 2
        assert [type(entry) for entry in attempt.entries] == [Input, Run, Completion]
        recorded = attempt.entries[2]
        assert isinstance(recorded, Completion)
        assert (recorded.kind, recorded.result) == (KIND_RUN, Value(b"9"))
        attempt.finish()
        assert (await host.attach(accepted.invocation_id)).outcome == Value(b"1")


async def test_the_old_leader_cannot_write_after_a_new_one_has_begun() -> None:
    store, port = CountingStore(), ScriptedPort()
    fatal: list[BaseException] = []
    async with hosting(store, port, on_fatal=fatal.append) as old:
        accepted = await old.send(request(old))
        await until(lambda: port.attempts)
        async with hosting(store):
            port.attempts[0].finish()
            await until(lambda: fatal)
        row = await old.invocation(accepted.invocation_id)
        assert row is not None
        assert row.status is not Status.COMPLETED


async def test_a_lost_worker_is_replaced_by_the_next_one() -> None:
    store, port = CountingStore(), ScriptedPort()
    async with hosting(store, port) as host:
        waiting = asyncio.ensure_future(host.call(request(host)))
        await until(lambda: port.attempts)
        host.detach_worker(port)
        again = ScriptedPort()
        again.on_open = lambda attempt: attempt.finish(b"2")
        await host.attach_worker(again)
        assert (await waiting).outcome == Value(b"2")


async def test_attempts_wait_for_a_worker_and_start_in_order() -> None:
    store, port = CountingStore(), ScriptedPort()
    async with hosting(store, port) as host:
        host.detach_worker(port)
        ids = [(await host.send(request(host))).invocation_id for _ in range(5)]
        assert host.health()["attempts_waiting"] == 5
        await host.attach_worker(port)
        await until(lambda: len(port.attempts) == 5)
        assert [attempt.start.invocation_id for attempt in port.attempts] == ids


async def test_attempts_in_flight_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invoker_module, "ATTEMPTS_MAX", 2)
    store, port = CountingStore(), ScriptedPort()
    async with hosting(store, port) as host:
        for _ in range(5):
            await host.send(request(host))
        await until(lambda: len(port.attempts) == 2)
        assert host.health()["attempts_waiting"] == 3
        for done in range(5):
            await until(lambda n=done: len(port.attempts) > n)
            port.attempts[done].finish()
        await until(lambda: host.health()["attempts_open"] == 0)


async def test_the_clock_of_a_delayed_invocation_begins_when_it_is_due() -> None:
    store, port = CountingStore(), ScriptedPort()
    async with hosting(store, port) as host:
        due_at_ms = host.now_ms() + 20
        await host.send(request(host, execute_at_ms=due_at_ms))
        await until(lambda: port.attempts)
        assert port.attempts[0].start.created_at_ms == due_at_ms


async def test_attempts_that_wait_give_up_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invoker_module, "ATTEMPTS_MAX", 1)
    monkeypatch.setattr(invoker_module, "_CROWDED_S", 0.01)
    store, port = CountingStore(), ScriptedPort()
    async with hosting(store, port) as host:
        await host.send(request(host))
        await until(lambda: port.attempts)
        await host.send(request(host))
        await until(lambda: port.attempts[0].is_input_closed)


async def test_a_value_that_cannot_be_stored_harms_only_its_own_record() -> None:
    store, port = CountingStore(), ScriptedPort()
    port.on_open = lambda attempt: attempt.finish(b"3")
    fatal: list[BaseException] = []
    async with hosting(store, port, on_fatal=fatal.append) as host:
        refused: list[Batch] = []

        def refuse(batch: Batch) -> None:
            if any(row.entry == Input(Value(b"bad")) for row in batch.journal):
                refused.append(batch)
                raise Unstorable("a lone surrogate")

        store.check = refuse
        bad = asyncio.ensure_future(host.send(request(host)._replace(body=b"bad")))
        good = asyncio.ensure_future(host.call(request(host)))
        with pytest.raises(Unstorable):
            await bad
        assert (await good).outcome == Value(b"3")
        assert len(refused) >= 2, "once together, once alone"
        assert fatal == []


async def test_an_attempt_that_began_before_its_batch_was_refused_is_the_only_one() -> None:
    store, port = CountingStore(), ScriptedPort()
    async with hosting(store, port) as host:

        def refuse(batch: Batch) -> None:
            if any(row.entry == Input(Value(b"bad")) for row in batch.journal):
                raise Unstorable("a lone surrogate")

        store.check = refuse
        bad = asyncio.ensure_future(host.send(request(host)._replace(body=b"bad")))
        good = asyncio.ensure_future(host.call(request(host)))
        with pytest.raises(Unstorable):
            await bad
        bodies = [attempt.entries[0].value.content for attempt in port.attempts]
        assert sorted(bodies) == [b"1", b"bad"]
        for attempt in port.attempts:
            assert attempt.is_aborted == (attempt.entries[0].value.content == b"bad")
            attempt.finish(b"3")
        assert (await good).outcome == Value(b"3")
        assert host.health()["attempts_open"] == 0


async def test_whoever_waits_hears_that_the_server_has_stopped() -> None:
    store, port = CountingStore(), ScriptedPort()
    async with hosting(store, port) as host:
        waiting = asyncio.ensure_future(host.call(request(host)))
        await until(lambda: port.attempts and store.batches)
        store.failure = StorageError("the disk is gone", code="HF4108")
        port.attempts[0].finish()
        with pytest.raises(StorageUnavailable, match=r"has stopped.*disk is gone"):
            await waiting


async def test_an_unpinned_invocation_goes_to_the_deployment_that_serves_it_now() -> None:
    store, first = CountingStore(), ScriptedPort()
    second = ScriptedPort()
    second.deployment_name = "next"
    async with hosting(store, first) as host:
        host.detach_worker(first)
        await host.send(request(host))
        await host.attach_worker(second)
        await until(lambda: second.attempts)


async def test_a_long_outbox_is_sent_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.server.outbox._SLICE_MESSAGES", 3)
    monkeypatch.setattr("holdfast.server.partition.QUEUE_RECORDS_MAX", 20)
    store, port = CountingStore(partition_count=2), ScriptedPort()
    key = {partition_of(key_partition_key(str(n)), 2): str(n) for n in range(50)}
    async with hosting(store, port) as host:
        await host.send(request(host, key[0]))
        await until(lambda: port.attempts)
        sends = [OneWayCall("Box", "put", b"", key[1], (), None, 0, n) for n in range(1, 101)]
        port.attempts[0].say(*sends)
        for number in range(1, 101):
            await until(lambda n=number: len(port.attempts) > n)
            port.attempts[number].finish()


async def test_a_worker_of_another_program_is_refused() -> None:
    store, port = CountingStore(), ScriptedPort()
    stranger = ScriptedPort()
    stranger.manifest = Manifest(
        services=(ServiceManifest(name="Other", kind=ServiceKind.SERVICE, handlers=()),)
    )
    async with hosting(store, port) as host:
        with pytest.raises(UsageError, match=r"(?s)in use by a worker.*\[HF1306\]"):
            await host.attach_worker(stranger)
        host.detach_worker(port)
        await host.attach_worker(stranger)


async def test_state_of_a_key_is_sent_with_the_start() -> None:
    store, port = CountingStore(), ScriptedPort()
    async with hosting(store, port) as host:
        await host.send(request(host, "k"))
        await until(lambda: port.attempts)
        port.attempts[0].say(SetState("a", Value(b"1")))
        port.attempts[0].finish()
        await host.send(request(host, "k"))
        await until(lambda: len(port.attempts) == 2)
        assert port.attempts[1].start.state == {"a": b"1"}
        assert not port.attempts[1].start.is_state_partial
        assert await host.state("Box", "k") == {"a": StateRow(b"1")}


async def test_a_sleep_wakes_a_suspended_invocation_also_after_a_restart() -> None:
    store, port = CountingStore(), ScriptedPort()
    async with hosting(store, port) as host:
        await host.send(request(host))
        await until(lambda: port.attempts)
        port.attempts[0].say(Sleep(host.now_ms() + 50, 1), Suspension((1,), (1,)))
        port.attempts[0].stream.on_closed(None)
        await until(lambda: host.health()["attempts_open"] == 0)
    again = ScriptedPort()
    async with hosting(store, again) as host:
        await until(lambda: again.attempts)
        assert isinstance(again.attempts[0].entries[-1], Completion)


async def test_more_timers_than_fit_into_memory_all_fire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.server.timer.WINDOW_TIMERS_MAX", 3)
    store, port = CountingStore(), ScriptedPort()
    async with hosting(store, port) as host:
        await host.send(request(host))
        await until(lambda: port.attempts)
        now_ms = host.now_ms()
        port.attempts[0].say(*(Sleep(now_ms + 20 + n % 7, n) for n in range(1, 30)))
        await until(lambda: len(port.attempts[0].notified) == 29)


async def test_a_waiting_handler_is_asked_to_suspend() -> None:
    store, port = CountingStore(), ScriptedPort()
    async with hosting(store, port, inactivity_timeout_ms=10) as host:
        await host.send(request(host))
        await until(lambda: port.attempts and port.attempts[0].is_input_closed)


async def test_cancel_and_kill_reach_the_handler() -> None:
    store, port = CountingStore(), ScriptedPort()
    async with hosting(store, port) as host:
        accepted = await host.send(request(host))
        await until(lambda: port.attempts)
        cancel = Signal(Void(), index=SIGNAL_CANCEL)
        assert (await host.signal(accepted.invocation_id, cancel)).reply is Reply.ACCEPTED
        await until(lambda: port.attempts[0].notified)
        assert (await host.kill(accepted.invocation_id)).reply is Reply.ACCEPTED
        await until(lambda: port.attempts[0].is_aborted)
        finished = await host.attach(accepted.invocation_id)
        assert finished.outcome == Failure(409, "killed")
        assert host.health()["attempts_open"] == 0


async def test_completed_invocations_go_after_their_retention() -> None:
    store, port = CountingStore(), ScriptedPort(retention_ms=30)
    port.on_open = lambda attempt: attempt.finish()
    async with hosting(store, port) as host:
        finished = await host.call(request(host))
        async with asyncio.timeout(5):
            while await host.invocation(finished.invocation_id) is not None:
                await asyncio.sleep(0.005)
        assert await host.journal(finished.invocation_id) == []
        with pytest.raises(NotFoundError, match=r"\[HF1004\]"):
            await host.attach(finished.invocation_id)


async def test_the_same_idempotency_key_is_one_invocation() -> None:
    store, port = CountingStore(), ScriptedPort()
    async with hosting(store, port) as host:
        calls = [
            asyncio.ensure_future(host.call(request(host, idempotency_key="a"))) for _ in range(3)
        ]
        await until(lambda: port.attempts)
        port.attempts[0].finish(b"5")
        outcomes = [await call for call in calls]
        late = await host.call(request(host, idempotency_key="a"))
        assert {finished.outcome for finished in (*outcomes, late)} == {Value(b"5")}
        assert len(port.attempts) == 1
        assert late.expires_at_ms > host.now_ms()


async def test_giving_up_the_wait_leaves_the_invocation() -> None:
    store, port = CountingStore(), ScriptedPort()
    async with hosting(store, port) as host:
        call = asyncio.ensure_future(host.call(request(host, idempotency_key="a")))
        await until(lambda: port.attempts)
        call.cancel()
        port.attempts[0].finish(b"5")
        assert (await host.call(request(host, idempotency_key="a"))).outcome == Value(b"5")
