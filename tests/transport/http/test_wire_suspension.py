"""Attempts that end because they wait, on the wire; and the version that an invocation keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from wire_harness import CANCEL, OK, Mode, Wire, every_mode, wired

from holdfast.domain.errors import UsageError
from holdfast.domain.message import (
    AwaitTree,
    Combinator,
    Completion,
    Failure,
    ProposeRunCompletion,
    Run,
    Signal,
    Sleep,
    Value,
    Void,
)
from holdfast.engine.row import Status

HOUR_MS = 3_600_000
ALL = Combinator.ALL_COMPLETED
ANY_SUCCEEDED = Combinator.FIRST_SUCCEEDED_OR_ALL_FAILED
ALL_SUCCEEDED = Combinator.ALL_SUCCEEDED_OR_FIRST_FAILED
WITH_TREES = [
    Mode(7),
    Mode(7, is_bidirectional=False),
    Mode(7, is_bidirectional=False, is_http_2=False),
    Mode(7, inactivity_ms=0),
]
with_trees = pytest.mark.parametrize("mode", WITH_TREES)


@pytest.fixture
async def wire(mode: Mode, tmp_path: Path) -> AsyncIterator[Wire]:
    async with wired(mode, tmp_path) as wire:
        yield wire


async def resolve(wire: Wire, invocation_id: str, index: int, *, is_failed: bool = False) -> None:
    result = Failure(500, "no") if is_failed else Value(b"1")
    await wire.host.signal(invocation_id, Signal(result, index=index))


async def sleeps_still(wire: Wire, invocation_id: str, attempt: int) -> None:
    """What has been stored did not wake it: that is decided in the same commit."""
    row = await wire.row(invocation_id)
    assert (row.status, row.attempt) == (Status.SUSPENDED, attempt)


@every_mode
async def test_what_is_stored_already_starts_the_next_attempt_at_once(wire: Wire) -> None:
    invocation_id, attempt = await wire.begun()
    attempt.send(attempt.encode(Run(1), ProposeRunCompletion(1, Value(b"1"))))
    attempt.wait_for(1)
    again = await wire.attempt(invocation_id)
    assert len(again.journal) == 3
    again.finish()


@every_mode
async def test_any_one_of_several_resumes(wire: Wire) -> None:
    invocation_id, attempt = await wire.begun()
    soon = wire.host.now_ms() + 50
    attempt.say(Sleep(soon, 1), Sleep(soon + HOUR_MS, 2))
    attempt.wait_for(1, 2, signals=(17,))
    again = await wire.attempt(invocation_id)
    assert [e.completion_id for e in again.journal if isinstance(e, Completion)] == [1]
    again.wait_for(2, signals=(17,))
    await wire.row(invocation_id, Status.SUSPENDED)
    await resolve(wire, invocation_id, 17)
    third = await wire.attempt(invocation_id)
    assert third.journal[-1] == Signal(Value(b"1"), index=17)
    third.finish()


@every_mode
async def test_a_named_signal_resumes(wire: Wire) -> None:
    invocation_id, attempt = await wire.begun()
    attempt.wait_for(named_signals=("go",))
    await wire.row(invocation_id, Status.SUSPENDED)
    await wire.host.signal(invocation_id, Signal(Value(b"1"), name="go"))
    again = await wire.attempt(invocation_id)
    assert again.journal[-1] == Signal(Value(b"1"), name="go")
    again.finish()


@every_mode
async def test_a_cancellation_resumes(wire: Wire) -> None:
    invocation_id, attempt = await wire.begun()
    attempt.say(Sleep(wire.host.now_ms() + HOUR_MS, 1))
    attempt.wait_for(1)
    await wire.row(invocation_id, Status.SUSPENDED)
    await wire.host.signal(invocation_id, CANCEL)
    again = await wire.attempt(invocation_id)
    assert again.journal[-1] == Signal(Void(), index=1)
    # It may catch the cancellation, do something, and wait once more.
    again.send(again.encode(Run(2), ProposeRunCompletion(2, Value(b"undone"))))
    again.wait_for(2)
    third = await wire.attempt(invocation_id)
    third.finish(Failure(409, "cancelled"))
    assert await wire.outcome(invocation_id) == Failure(409, "cancelled")


@every_mode
async def test_it_sleeps_through_a_restart(wire: Wire) -> None:
    invocation_id, attempt = await wire.begun()
    attempt.say(Sleep(wire.host.now_ms() + 300, 1, name="nap"))
    attempt.wait_for(1)
    await wire.row(invocation_id, Status.SUSPENDED)
    await wire.restart()
    again = await wire.attempt(invocation_id)
    assert [type(entry) for entry in again.journal[1:]] == [Sleep, Completion]
    again.finish()
    assert await wire.outcome(invocation_id) == OK.result


# -- trees -----------------------------------------------------------------------------------------


@with_trees
async def test_waiting_for_all_resumes_with_the_last(wire: Wire) -> None:
    invocation_id, attempt = await wire.begun()
    attempt.say(Sleep(1, 1))
    attempt.wait_for_tree(AwaitTree(ALL, (1,), (17, 18)))
    await wire.row(invocation_id, Status.SUSPENDED)
    await resolve(wire, invocation_id, 18)
    await sleeps_still(wire, invocation_id, 1)
    await resolve(wire, invocation_id, 17, is_failed=True)
    again = await wire.attempt(invocation_id)
    assert len(again.journal) == 5
    again.finish()


@with_trees
async def test_a_failure_is_no_first_success(wire: Wire) -> None:
    invocation_id, attempt = await wire.begun()
    attempt.wait_for_tree(AwaitTree(ANY_SUCCEEDED, (), (17, 18)))
    await wire.row(invocation_id, Status.SUSPENDED)
    await resolve(wire, invocation_id, 17, is_failed=True)
    await sleeps_still(wire, invocation_id, 1)
    await resolve(wire, invocation_id, 18)
    (await wire.attempt(invocation_id)).finish()


@with_trees
async def test_one_failure_is_enough_where_all_must_succeed(wire: Wire) -> None:
    invocation_id, attempt = await wire.begun()
    attempt.wait_for_tree(AwaitTree(ALL_SUCCEEDED, (), (17, 18, 19)))
    await wire.row(invocation_id, Status.SUSPENDED)
    await resolve(wire, invocation_id, 17)
    await sleeps_still(wire, invocation_id, 1)
    await resolve(wire, invocation_id, 18, is_failed=True)
    (await wire.attempt(invocation_id)).finish()


@with_trees
async def test_a_tree_of_trees_is_kept_over_a_restart_with_what_has_arrived(wire: Wire) -> None:
    invocation_id, attempt = await wire.begun()
    below = AwaitTree(ALL, (), (18, 19))
    attempt.wait_for_tree(
        AwaitTree(ALL, (), (17,), (), (AwaitTree(ANY_SUCCEEDED, (), (20,), (), (below,)),))
    )
    await wire.row(invocation_id, Status.SUSPENDED)
    await resolve(wire, invocation_id, 20, is_failed=True)
    await resolve(wire, invocation_id, 19)
    await wire.restart()
    await resolve(wire, invocation_id, 17)
    await sleeps_still(wire, invocation_id, 1)
    await resolve(wire, invocation_id, 18)
    again = await wire.attempt(invocation_id)
    assert len(again.journal) == 5
    again.finish()


@with_trees
async def test_what_came_before_counts_in_a_tree(wire: Wire) -> None:
    """SDKs say the whole tree, with what is done in it; also what they have seen long ago."""
    invocation_id, attempt = await wire.begun()
    await resolve(wire, invocation_id, 17)
    attempt.break_off()
    again = await wire.attempt(invocation_id)
    assert again.journal[1:] == [Signal(Value(b"1"), index=17)]
    again.wait_for_tree(AwaitTree(ALL, (), (17, 18)))
    await wire.row(invocation_id, Status.SUSPENDED)
    await resolve(wire, invocation_id, 18)
    (await wire.attempt(invocation_id)).finish()


@with_trees
async def test_a_cancellation_ends_the_wait_for_a_tree(wire: Wire) -> None:
    invocation_id, attempt = await wire.begun()
    attempt.wait_for_tree(AwaitTree(ALL, (), (17, 18)))
    await wire.row(invocation_id, Status.SUSPENDED)
    await wire.host.signal(invocation_id, CANCEL)
    (await wire.attempt(invocation_id)).finish(Failure(409, "cancelled"))


# -- the version of an invocation ------------------------------------------------------------------


async def versions_of(wire: Wire, invocation_id: str) -> tuple[int, int]:
    """Return the version of the next attempt, and what is stored while it runs."""
    attempt = await wire.attempt(invocation_id)
    stored = (await wire.row(invocation_id)).protocol_version
    attempt.say(Run(len(attempt.journal)))
    attempt.break_off()
    return attempt.codec.version, stored


@pytest.mark.parametrize("is_bidirectional", [True, False])
async def test_a_version_is_pinned_with_the_first_entry_and_kept(
    is_bidirectional: bool, tmp_path: Path
) -> None:
    """Begun on 6, it goes on with 6 when the server speaks 7, and the other way round."""
    async with wired(Mode(6, is_bidirectional), tmp_path) as wire:
        wire.versions = (5, 7)
        wire.dialer_options = {"version_max": 6}
        await wire.restart()
        await wire.register(is_forced=True)
        old, attempt = await wire.begun()
        unpinned = await wire.send()
        assert attempt.codec.version == 6
        assert (await wire.row(old)).protocol_version == 0
        attempt.send(attempt.encode(Run(1)))
        await wire.stored(old, 2)
        assert (await wire.row(old)).protocol_version == 6

        wire.dialer_options = {}
        attempt.exchange.end()
        await wire.request(unpinned)
        await wire.restart()
        assert await versions_of(wire, old) == (6, 6)
        assert await versions_of(wire, unpinned) == (7, 0)
        await wire.stored(unpinned, 2)

        wire.dialer_options = {"version_max": 6}
        await wire.restart()
        assert await versions_of(wire, old) == (6, 6)
        assert await versions_of(wire, unpinned) == (7, 7)
        new = await wire.send()
        assert await versions_of(wire, new) == (6, 0)


async def test_an_invocation_from_before_versions_were_kept_goes_on_with_6(tmp_path: Path) -> None:
    async with wired(Mode(6), tmp_path) as wire:
        wire.versions = (5, 7)
        await wire.register(is_forced=True)
        invocation_id, attempt = await wire.begun()
        attempt.send(attempt.encode(Run(1)))
        await wire.stored(invocation_id, 2)
        row = await wire.row(invocation_id)
        assert row.protocol_version == 7
        row.protocol_version = 0
        await wire.restart(row)
        assert await versions_of(wire, invocation_id) == (6, 0)
        await wire.stored(invocation_id, 3)
        assert (await wire.row(invocation_id)).protocol_version == 6


async def test_an_endpoint_that_no_longer_speaks_the_version_is_waited_for(tmp_path: Path) -> None:
    async with wired(Mode(7), tmp_path) as wire:
        invocation_id, attempt = await wire.begun()
        attempt.send(attempt.encode(Run(1)))
        await wire.stored(invocation_id, 2)
        wire.versions = (5, 6)
        await wire.register(is_forced=True)
        attempt.exchange.end()
        row = await wire.failed_with(invocation_id, "HF1346")
        assert row.stale_retry_count <= 1, "it does not count as a failure of the handler"
        wire.versions = (5, 7)
        await wire.register(is_forced=True)
        again = await wire.attempt(invocation_id)
        assert again.codec.version == 7
        again.finish()
        assert await wire.outcome(invocation_id) == OK.result


async def test_nothing_moves_to_a_deployment_that_does_not_speak_its_version(
    tmp_path: Path,
) -> None:
    async with wired(Mode(7), tmp_path) as wire:
        invocation_id, attempt = await wire.begun()
        attempt.send(attempt.encode(Run(1)))
        attempt.wait_for(1)
        await wire.row(invocation_id, Status.SUSPENDED)
        wire.versions = (5, 6)
        other = await wire.register("/old")
        with pytest.raises(UsageError, match="version 7") as caught:
            await wire.host.operations.resume(invocation_id, other)
        assert caught.value.code == "HF1333"
        wire.versions = (5, 7)
        third = await wire.register("/new")
        await wire.host.operations.resume(invocation_id, third)
        again = await wire.attempt(invocation_id)
        assert again.exchange.fields[":path"] == "/new/invoke/S/run"
        assert again.codec.version == 7
        again.finish()
