"""One exclusive invocation per key at a time, in the order of acceptance; readers beside it."""

from __future__ import annotations

import asyncio

from holdfast import Client

from .harness import Holdfast, Ledger, wait_until

MANY = 100


async def test_concurrent_increments(dev: Holdfast) -> None:
    async with Client(f"http://{dev.ingress}") as client:
        calls = [client.call("Counter/add", 1, key="a", type=int) for _ in range(MANY)]
        results = await asyncio.gather(*calls)
        assert sorted(results) == list(range(1, MANY + 1))
        assert await client.call("Counter/peek", key="a", type=int) == MANY
        assert await client.call("Counter/peek", key="b", type=int) == 0


def awakeable_of_holder(ledger: Ledger) -> str:
    def find() -> str | None:
        told = [line.split()[1] for line in ledger.lines() if line.startswith("hold ")]
        return told[0] if told else None

    return wait_until(find, "the holder of the key")


async def test_queued_calls_run_in_the_order_of_acceptance(dev: Holdfast, ledger: Ledger) -> None:
    dev.send("Counter/a/hold")
    awakeable = await asyncio.to_thread(awakeable_of_holder, ledger)
    async with Client(f"http://{dev.ingress}") as client:
        tasks = [
            asyncio.create_task(client.send("Counter/add", 1, key="a", headers={"n": str(n)}))
            for n in range(MANY)
        ]
        sent = [each.invocation_id for each in await asyncio.gather(*tasks)]
        rows = {row["id"]: row for row in dev.invocations("handler=add&status=pending")}
        assert set(rows) == set(sent)
        in_order = sorted(sent, key=lambda each: rows[each]["inbox_sequence"])
        await client.resolve(awakeable, "go")
        results = await asyncio.gather(*(client.attach(each, type=int) for each in in_order))
    assert results == list(range(1, MANY + 1))


def test_sends_one_after_the_other_run_in_that_order(dev: Holdfast, ledger: Ledger) -> None:
    dev.send("Counter/a/hold")
    awakeable = awakeable_of_holder(ledger)
    sent = [dev.send("Counter/a/add", 1) for _ in range(20)]
    dev.resolve(awakeable, "go")
    assert [dev.attach(each).ok() for each in sent] == list(range(1, 21))


def test_a_shared_handler_answers_while_an_exclusive_one_runs(
    dev: Holdfast, ledger: Ledger
) -> None:
    assert dev.call("Counter/a/add", 7) == 7
    holder = dev.send("Counter/a/hold")
    awakeable = awakeable_of_holder(ledger)
    waiting = dev.send("Counter/a/add", 1)
    assert dev.call("Counter/a/peek") == 7
    assert dev.invocation(waiting)["status"] == "pending"
    assert dev.invocation(holder)["status"] != "completed"
    # Another key is not held up.
    assert dev.call("Counter/b/add", 1) == 1
    dev.resolve(awakeable, "go")
    assert dev.attach(holder).ok() == "go"
    assert dev.attach(waiting).ok() == 8
    assert dev.call("Counter/a/peek") == 8
