"""Operations on invocations by HTTP: a real server below, handlers that a test plays."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from holdfast.admin.app import create_admin_app
from holdfast.domain.ids import deployment_id_of
from holdfast.domain.message import Error, Run, Sleep, Suspension, Value
from holdfast.engine.decision import Answer, Reply
from holdfast.engine.row import Status
from holdfast.server.host import Host
from tests.ingress.fake import INVOCATION_ID, Client, FakeHandle, Seen
from tests.server.harness import CountingStore, ScriptedPort, hosting, request, until

UNKNOWN = INVOCATION_ID
IN_A_YEAR_MS = 4_000_000_000_000


class Bench:
    """A server, its admin API, and the handlers' end of its attempts."""

    def __init__(self, host: Host, port: ScriptedPort) -> None:
        self.host = host
        self.port = port
        self.client = Client(create_admin_app(host))

    async def running(self, key: str | None = None) -> str:
        """Return an invocation whose attempt is open."""
        count = len(self.port.attempts)
        accepted = await self.host.send(request(self.host, key))
        await until(lambda: len(self.port.attempts) > count)
        return accepted.invocation_id

    async def status(self, invocation_id: str) -> Status | None:
        row = await self.host.invocation(invocation_id)
        return None if row is None else row.status

    async def until_status(self, invocation_id: str, status: Status) -> str:
        async with asyncio.timeout(5):
            while await self.status(invocation_id) is not status:
                await asyncio.sleep(0.001)
        return invocation_id

    async def suspended(self) -> str:
        invocation = await self.running()
        self.port.attempts[-1].say(Sleep(IN_A_YEAR_MS, 1))
        self.port.attempts[-1].say(Suspension((1,), (1,)))
        return await self.until_status(invocation, Status.SUSPENDED)

    async def backing_off(self) -> str:
        invocation = await self.running()
        self.port.attempts[-1].say(Error(500, "no"))
        return await self.until_status(invocation, Status.BACKING_OFF)

    async def completed(self) -> str:
        invocation = await self.running()
        self.port.attempts[-1].finish()
        return await self.until_status(invocation, Status.COMPLETED)

    async def pending(self) -> str:
        await self.running("k")
        accepted = await self.host.send(request(self.host, "k"))
        return await self.until_status(accepted.invocation_id, Status.PENDING)

    async def patch(self, invocation_id: str, verb: str, *headers: tuple[str, str]) -> Seen:
        url = f"/invocations/{invocation_id}/{verb}"
        return await self.client.request("PATCH", url, headers=headers)

    async def batch(self, verb: str, **body: Any) -> Any:
        seen = await self.client.post(
            f"/holdfast/v1/invocations/batch/{verb}", json.dumps(body).encode()
        )
        return seen.json


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Bench]:
    port = ScriptedPort()
    async with hosting(CountingStore(4), port) as host:
        yield Bench(host, port)


def results(answer: Any) -> dict[str, str]:
    return {
        each["id"]: each["result"] or each["error"]["error_code"] for each in answer["invocations"]
    }


# -- one invocation --------------------------------------------------------------------------------


async def test_pause_and_resume() -> None:
    async with opened() as bench:
        invocation = await bench.running()
        seen = await bench.patch(invocation, "pause")
        assert (seen.status, seen.json) == (202, {"result": "paused"})
        assert bench.port.attempts[0].is_aborted
        assert await bench.status(invocation) is Status.PAUSED
        seen = await bench.patch(invocation, "pause")
        assert (seen.status, seen.json) == (200, {"result": "already paused"})
        seen = await bench.patch(invocation, "resume")
        assert (seen.status, seen.json) == (200, {"result": "resumed"})
        await until(lambda: len(bench.port.attempts) == 2)
        assert bench.port.attempts[1].start.attempt == 2
        seen = await bench.patch(invocation, "resume")
        assert (seen.status, seen.json["error_code"]) == (409, "HF1250")
        assert "is running; resume is for what is paused, suspended" in seen.json["message"]
        assert "pause it, then resume it there" in seen.json["hint"]


@pytest.mark.parametrize("make", ["suspended", "backing_off"])
async def test_what_waits_is_resumed_at_once(make: str) -> None:
    async with opened() as bench:
        invocation = await getattr(bench, make)()
        assert (await bench.patch(invocation, "resume")).status == 200
        await until(lambda: len(bench.port.attempts) == 2)
        assert bench.port.attempts[1].start.retry_count == 0


@pytest.mark.parametrize(
    ("make", "verb", "status", "code"),
    [
        ("pending", "pause", 409, "HF1251"),
        ("pending", "resume", 425, "HF1251"),
        ("pending", "restart-as-new", 425, "HF1251"),
        ("pending", "purge", 409, "HF1250"),
        ("running", "restart-as-new", 409, "HF1250"),
        ("running", "purge", 409, "HF1250"),
        ("suspended", "purge-journal", 409, "HF1250"),
        ("completed", "pause", 409, "HF1409"),
        ("completed", "resume", 409, "HF1409"),
        ("completed", "cancel", 409, "HF1409"),
        ("completed", "kill", 409, "HF1409"),
    ],
)
async def test_refusals(make: str, verb: str, status: int, code: str) -> None:
    async with opened() as bench:
        seen = await bench.patch(await getattr(bench, make)(), verb)
        assert (seen.status, seen.json["error_code"]) == (status, code)


@pytest.mark.parametrize(
    "verb", ["pause", "resume", "restart-as-new", "purge", "purge-journal", "cancel", "kill"]
)
async def test_unknown_and_malformed_ids(verb: str) -> None:
    async with opened() as bench:
        seen = await bench.patch(UNKNOWN, verb)
        assert (seen.status, seen.json["error_code"]) == (404, "HF1004")
        seen = await bench.patch("inv_1", verb)
        assert (seen.status, seen.json["error_code"]) == (400, "HF1003")


async def test_resume_on_another_deployment() -> None:
    async with opened() as bench:
        invocation = await bench.running()
        bench.port.attempts[0].say(Run(1))
        async with asyncio.timeout(5):
            while len(await bench.host.journal(invocation)) < 2:
                await asyncio.sleep(0.001)
        await bench.patch(invocation, "pause")
        newer = ScriptedPort()
        newer.deployment_name = "newer"
        await bench.host.attach_worker(newer)
        for asked, status, code in (
            ("dp_1nowhere", 404, "HF1062"),
            (await other_deployment(bench.host), 400, "HF1252"),
        ):
            seen = await bench.patch(invocation, f"resume?deployment={asked}")
            assert (seen.status, seen.json["error_code"]) == (status, code)
        assert await bench.status(invocation) is Status.PAUSED
        assert (await bench.patch(invocation, "resume?deployment=latest")).status == 200
        await until(lambda: len(newer.attempts) == 1)
        row = await bench.host.invocation(invocation)
        assert row is not None
        assert row.deployment_id == deployment_id_of("newer")
        # And back.
        await bench.patch(invocation, "pause")
        first = deployment_id_of("scripted")
        assert (await bench.patch(invocation, f"resume?deployment={first}")).status == 200
        await until(lambda: len(bench.port.attempts) == 2)
        seen = await bench.patch(invocation, "resume?to=latest")
        assert (seen.status, seen.json["error_code"]) == (400, "HF1060")
        seen = await bench.patch(UNKNOWN, "resume?deployment=latest")
        assert seen.status == 404


async def test_what_waits_for_a_worker_that_is_gone_is_moved_to_another() -> None:
    async with opened() as bench:
        invocation = await bench.running()
        bench.port.attempts[0].say(Run(1))
        async with asyncio.timeout(5):
            while len(await bench.host.journal(invocation)) < 2:
                await asyncio.sleep(0.001)
        bench.host.detach_worker(bench.port)
        newer = ScriptedPort()
        newer.deployment_name = "newer"
        await bench.host.attach_worker(newer)
        await until(lambda: bench.host.health()["attempts_waiting"] == 1)
        assert (await bench.patch(invocation, "resume?deployment=latest")).status == 409
        assert (await bench.patch(invocation, "pause")).status == 202
        assert bench.host.health()["attempts_waiting"] == 0
        assert (await bench.patch(invocation, "resume?deployment=latest")).status == 200
        await until(lambda: len(newer.attempts) == 1)
        newer.attempts[0].finish(b"7")
        assert (await bench.host.attach(invocation)).outcome == Value(b"7")
        assert len(bench.port.attempts) == 1


async def other_deployment(host: Host) -> str:
    port = ScriptedPort()
    port.deployment_name = "other"
    [service, _] = port.manifest.services
    renamed = type(service)(name="Other", kind=service.kind, handlers=service.handlers)
    port.manifest = type(port.manifest)(services=(renamed,))
    return await host.attach_worker(port)


async def test_restart_and_its_idempotency_key() -> None:
    async with opened() as bench:
        source = await bench.completed()
        key = ("idempotency-key", "once")
        seen = await bench.patch(source, "restart-as-new", key)
        assert (seen.status, seen.json["result"]) == (200, "restarted")
        new = seen.json["new_invocation_id"]
        assert new[:16] == source[:16], "another partition key"
        seen = await bench.patch(source, "restart-as-new", key)
        assert seen.json == {"result": "already restarted", "new_invocation_id": new}
        row = await bench.host.invocation(new)
        assert row is not None
        assert row.origin.invocation_id == source
        other = (await bench.patch(source, "restart-as-new")).json["new_invocation_id"]
        assert other not in (new, source)
        await until(lambda: len(bench.port.attempts) == 3)
        assert bench.port.attempts[1].entries == bench.port.attempts[0].entries


async def test_restart_from_an_entry_and_its_refusals() -> None:
    async with opened() as bench:
        source = await bench.running()
        bench.port.attempts[0].say(Run(1, "a"))
        bench.port.attempts[0].finish()
        await bench.until_status(source, Status.COMPLETED)
        for index in (2, 3, 1_000):
            seen = await bench.patch(source, f"restart-as-new?from={index}")
            assert (seen.status, seen.json["error_code"]) == (400, "HF1255"), index
        seen = await bench.patch(source, "restart-as-new?from=x")
        assert (seen.status, seen.json["error_code"]) == (400, "HF1060")
        seen = await bench.patch(source, "restart-as-new?from=1&deployment=keep")
        new = seen.json["new_invocation_id"]
        row = await bench.host.invocation(new)
        assert row is not None
        assert row.deployment_id == deployment_id_of("scripted")
        await until(lambda: len(bench.port.attempts) == 2)
        first, second = bench.port.attempts
        assert (second.start.invocation_id, second.start.known_entries) == (new, 2)
        # What the handler computes from these must be what it was.
        assert second.start.random_seed == first.start.random_seed
        assert second.start.created_at_ms == first.start.created_at_ms
        assert (await bench.patch(source, "purge-journal")).status == 200
        seen = await bench.patch(source, "restart-as-new")
        assert (seen.status, seen.json["error_code"]) == (410, "HF1253")


async def test_purge() -> None:
    async with opened() as bench:
        invocation = await bench.completed()
        seen = await bench.patch(invocation, "purge-journal")
        assert (seen.status, seen.json) == (200, {"result": "journal purged"})
        finished = await bench.host.attach(invocation)
        assert finished.outcome == (await bench.host.output(invocation)).outcome  # type: ignore[union-attr]
        seen = await bench.patch(invocation, "purge-journal")
        assert (seen.status, seen.json) == (200, {"result": "journal already purged"})
        seen = await bench.patch(invocation, "purge")
        assert (seen.status, seen.json) == (200, {"result": "purged"})
        assert (await bench.patch(invocation, "purge")).status == 404


@pytest.mark.parametrize(
    ("reply", "status", "code"),
    [(Reply.UNSUPPORTED, 422, "HF1254"), (Reply.OVERLOADED, 429, "HF1429")],
)
async def test_other_refusals(
    client: Client, handle: FakeHandle, reply: Reply, status: int, code: str
) -> None:
    handle.answer = Answer(reply, Status.COMPLETED)
    seen = await client.request("PATCH", f"/invocations/{UNKNOWN}/restart-as-new?from=3")
    assert (seen.status, seen.json["error_code"]) == (status, code)
    assert handle.operations.asked == [("restart", UNKNOWN, 3, "latest", None)]


# -- many ------------------------------------------------------------------------------------------


async def test_a_dry_run_tells_what_would_be_done_and_does_nothing() -> None:
    async with opened() as bench:
        made = [await bench.running(), await bench.suspended(), await bench.backing_off()]
        done, waiting = await bench.completed(), await bench.pending()
        everything = {*made, done, waiting}
        answer = await bench.batch("pause", service="Echo", dry_run=True)
        assert results(answer) == dict.fromkeys(made, "paused")
        assert (answer["matched"], answer["done"], answer["refused"]) == (3, 3, 0)
        assert (answer["verb"], answer["dry_run"], answer["next"]) == ("pause", True, None)
        answer = await bench.batch("pause", ids=[*everything, UNKNOWN], dry_run=True)
        assert results(answer) == {
            **dict.fromkeys(made, "paused"),
            done: "HF1409",
            waiting: "HF1251",
            UNKNOWN: "HF1004",
        }
        assert [await bench.status(each) for each in made] == [
            Status.RUNNING,
            Status.SUSPENDED,
            Status.BACKING_OFF,
        ]


async def test_a_filter_and_then_the_same_again() -> None:
    async with opened() as bench:
        made = [await bench.running() for _ in range(3)]
        boxed = await bench.running("k")
        answer = await bench.batch("pause", service="Echo", handler="run")
        assert results(answer) == dict.fromkeys(made, "paused")
        assert await bench.status(boxed) is Status.RUNNING
        answer = await bench.batch("pause", service="Echo")
        assert answer["matched"] == 0
        answer = await bench.batch("pause", ids=[made[0]])
        assert results(answer) == {made[0]: "already paused"}
        answer = await bench.batch("resume", status=["paused"], deployment="latest")
        assert results(answer) == dict.fromkeys(made, "resumed")
        answer = await bench.batch("kill", key="k")
        assert results(answer) == {boxed: "killed"}
        answer = await bench.batch("cancel", all=True)
        assert results(answer) == dict.fromkeys(made, "cancelling")
        answer = await bench.batch("purge", all=True)
        assert results(answer) == {boxed: "purged"}


async def test_pages_and_times() -> None:
    async with opened() as bench:
        made = [await bench.completed() for _ in range(3)]
        newest = await bench.host.invocation(made[-1])
        assert newest is not None
        answer = await bench.batch("restart-as-new", service="Echo", limit=2)
        assert (answer["matched"], answer["done"]) == (2, 2)
        first = {each["id"] for each in answer["invocations"]}
        answer = await bench.batch("restart-as-new", service="Echo", limit=2, before=answer["next"])
        assert {each["id"] for each in answer["invocations"]} | first == set(made)
        assert answer["next"] is None
        for field, count in (("created_before", 0), ("created_after", 3)):
            answer = await bench.batch("purge", dry_run=True, **{field: "2001-01-01T00:00:00Z"})
            assert answer["matched"] == count, field
        answer = await bench.batch("purge", dry_run=True, created_before="2999-01-01T00:00:00")
        assert answer["matched"] == 3


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        ({}, "HF1256", "it names no invocations"),
        ({"dry_run": True}, "HF1256", "it names no invocations"),
        ({"sevrice": "Echo"}, "HF1256", "sevrice"),
        ({"service": 1}, "HF1256", "$.service"),
        ({"ids": []}, "HF1256", "0 ids; expected 1 to 1000"),
        ({"ids": [UNKNOWN], "service": "Echo"}, "HF1256", "do not go together"),
        ({"ids": [UNKNOWN], "all": True}, "HF1256", "do not go together"),
        ({"ids": ["x"]}, "HF1003", "is not an invocation id"),
        ({"all": True, "limit": 1001}, "HF1256", "limit is 1001; expected 1 to 1000"),
        ({"status": ["completed"]}, "HF1257", "pause can do nothing to what is completed"),
        ({"status": ["asleep"]}, "HF1060", "'asleep' is not a status"),
        ({"all": True, "before": "x"}, "HF1060", "is not a value for before"),
    ],
)
async def test_bad_bodies_do_nothing(
    client: Client, handle: FakeHandle, body: object, code: str, text: str
) -> None:
    seen = await client.post("/holdfast/v1/invocations/batch/pause", json.dumps(body).encode())
    assert (seen.status, seen.json["error_code"]) == (400, code)
    assert text in seen.json["message"]
    assert handle.operations.asked == []


async def test_other_bad_requests(client: Client, handle: FakeHandle) -> None:
    seen = await client.post("/holdfast/v1/invocations/batch/explode", b'{"all": true}')
    assert (seen.status, seen.json["error_code"]) == (404, "HF1005")
    seen = await client.post("/holdfast/v1/invocations/batch/pause", b"no json")
    assert (seen.status, seen.json["error_code"]) == (400, "HF1256")
    seen = await client.post("/holdfast/v1/invocations/batch/pause", b" " * 1_000_001)
    assert (seen.status, seen.json["error_code"]) == (413, "HF1259")
    seen = await client.request(
        "POST", "/holdfast/v1/invocations/batch/pause", b'{"al', is_cut=True
    )
    assert (seen.status, seen.json["error_code"]) == (400, "HF1259")


async def test_the_batches_of_restates_web_ui() -> None:
    async with opened() as bench:
        source = await bench.completed()
        running = await bench.running()

        async def ask(verb: str, *ids: str) -> Any:
            body = json.dumps({"invocation_ids": ids}).encode()
            url = f"/internal/invocations_batch_operations/{verb}"
            return (await bench.client.post(url, body)).json

        answer = await ask("restart-as-new", source, running)
        [pair] = answer["succeeded"]
        assert pair["old_invocation_id"] == source
        assert await bench.status(pair["new_invocation_id"]) is Status.RUNNING
        [failed] = answer["failed"]
        assert failed["invocation_id"] == running
        assert "is running" in failed["error"]
        assert await ask("pause", running) == {"succeeded": [running], "failed": []}
        assert (await ask("pause"))["error_code"] == "HF1256"
