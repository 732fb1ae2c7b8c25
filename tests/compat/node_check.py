"""What a server must give the services of `node/service.mjs`, however they are served."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

from tests.compat.front_door import FrontDoor, until
from tests.e2e.harness import Ledger

Check = Callable[[FrontDoor, Ledger, str], Awaitable[None]]
CHECKS: dict[str, Check] = {}
"""By name. Each gets a name that no other test uses."""


def check(function: Check) -> Check:
    CHECKS[getattr(function, "__name__")] = function  # noqa: B009
    return function


def noted(ledger: Ledger, name: str) -> list[str]:
    """Return what was noted under a name, without it; just the name is an empty note."""
    lines = [line.partition(" ") for line in ledger.lines()]
    return [rest for found, _, rest in lines if found == name]


async def first_note(ledger: Ledger, name: str) -> str:
    await until(lambda: noted(ledger, name))
    return noted(ledger, name)[0]


@check
async def greeting(door: FrontDoor, ledger: Ledger, name: str) -> None:
    assert await door.call("Steps/greet", name) == f"Hello {name}"
    headers = await door.call("Steps/headers", None, **{"x-mine": name})
    assert headers["x-mine"] == name


@check
async def bytes_come_back(door: FrontDoor, ledger: Ledger, name: str) -> None:
    data = bytes(range(256)) * 1000
    answer = await door.post_bytes("Steps/bytes", data)
    assert (answer.status, answer.body) == (200, data)


@check
async def steps_run_once(door: FrontDoor, ledger: Ledger, name: str) -> None:
    assert await door.call("Steps/count", {"name": name, "number": 5}) == [0, 1, 4, 9, 16]
    happened = [line for line in noted(ledger, name) if line != "attempt"]
    assert happened == ["0", "1", "2", "3", "4"]


@check
async def steps_and_calls_at_once(door: FrontDoor, ledger: Ledger, name: str) -> None:
    assert await door.call("Steps/together", 5) == [0, 1, 2, 3, 4, 0, 1, 4, 9, 16]


@check
async def timers(door: FrontDoor, ledger: Ledger, name: str) -> None:
    naps = [0, 1, 20, *[5] * 50]
    assert await door.call("Steps/nap", naps) == naps


@check
async def combinators(door: FrontDoor, ledger: Ledger, name: str) -> None:
    assert await door.call("Steps/combine", name) == {
        "race": 9,
        "any": 9,
        "settled": [9, "418 not today"],
        "all": "418 not today",
        "timeout": True,
        "map": 10,
        "nested": 9,
    }


@check
async def failures_are_retried(door: FrontDoor, ledger: Ledger, name: str) -> None:
    assert await door.call("Steps/failTwice", name) == 3


@check
async def a_step_has_a_policy_of_its_own(door: FrontDoor, ledger: Ledger, name: str) -> None:
    assert await door.call("Steps/flakyStep", name) == f"gave up: {name} 3"
    assert len(noted(ledger, name)) == 3


@check
async def terminal_failures(door: FrontDoor, ledger: Ledger, name: str) -> None:
    answer = await door.post("Steps/reject", 418)
    assert (answer.status, answer.json["message"]) == (418, "not today")
    assert answer.headers["x-restate-error-source"] == "invocation"
    assert await door.call("Steps/call", 418) == "418 not today"


@check
async def send_and_attach(door: FrontDoor, ledger: Ledger, name: str) -> None:
    assert await door.call("Steps/sendAndAttach", 3) == [9, 16]


@check
async def random_numbers_and_the_clock(door: FrontDoor, ledger: Ledger, name: str) -> None:
    seen = await door.call("Steps/sameAgain", name)
    told = [json.loads(line) for line in noted(ledger, name) if line != "attempt"]
    assert len(told) >= 3
    assert all(each == seen for each in told)


@check
async def awakeables(door: FrontDoor, ledger: Ledger, name: str) -> None:
    """Resolved by a handler, rejected by a handler, resolved over HTTP."""
    for way, said in (("answer", "they said yes"), ("refuse", "500 no"), ("http", "they said so")):
        own = f"{name}-{way}"
        invocation = await door.send("Steps/waitForAPerson", own)
        awakeable_id = await first_note(ledger, own)
        if way == "http":
            url = f"{door.ingress}/restate/awakeables/{awakeable_id}/resolve"
            assert (await door.ask("POST", url, "so")).status == 202
        else:
            await door.call(f"Steps/{way}", awakeable_id)
        assert (await door.attach(invocation)).json == said
        assert noted(ledger, own) == [awakeable_id]


@check
async def signals(door: FrontDoor, ledger: Ledger, name: str) -> None:
    invocation = await door.send("Steps/listen", name)
    assert await first_note(ledger, name) == invocation
    await door.call("Steps/tell", [invocation, "one", "two"])
    assert (await door.attach(invocation)).json == ["one", "two"]


@check
async def cancellation(door: FrontDoor, ledger: Ledger, name: str) -> None:
    """The child is cancelled, and the handler compensates with a step."""
    invocation = await door.send("Steps/compensate", name)
    await until(lambda: "child began" in noted(ledger, name))
    answer = await door.ask("PATCH", f"{door.admin}/invocations/{invocation}/cancel")
    assert answer.status == 202, answer
    assert (await door.attach(invocation)).json == "undone after 409"
    await until(lambda: "child cancelled" in noted(ledger, name))
    assert noted(ledger, name).count("undone") == 1


@check
async def a_child_is_cancelled(door: FrontDoor, ledger: Ledger, name: str) -> None:
    assert await door.call("Steps/cancelChild", name) == 409


@check
async def kill(door: FrontDoor, ledger: Ledger, name: str) -> None:
    """The whole tree ends, and nothing is compensated."""
    invocation = await door.send("Steps/compensate", name)
    await until(lambda: "child began" in noted(ledger, name))
    await door.ask("PATCH", f"{door.admin}/invocations/{invocation}/kill")
    assert (await door.attach(invocation)).status == 409
    url = f"{door.admin}/holdfast/v1/invocations?status=running,suspended,pending"
    async with asyncio.timeout(10):
        while (await door.ask("GET", url)).json["invocations"]:
            await asyncio.sleep(0.005)
    assert "undone" not in noted(ledger, name)


@check
async def private_services(door: FrontDoor, ledger: Ledger, name: str) -> None:
    assert (await door.post("Hidden/tell", name)).status == 400
    assert await door.call("Steps/secret", name) == f"secret {name}"


@check
async def state(door: FrontDoor, ledger: Ledger, name: str) -> None:
    adds = [door.call(f"Counter/{name}/add", 1) for _ in range(10)]
    assert sorted(await asyncio.gather(*adds)) == list(range(1, 11))
    assert await door.call(f"Counter/{name}/get") == 10
    later = await door.call(f"Counter/{name}/addLater", 5)
    assert (await door.attach(later)).json == 15
    assert await door.call(f"Counter/{name}/empty") == [["other", "value"], []]
    assert await door.call(f"Counter/{name}/add", 2) == 2
    assert await door.call(f"Counter/{name}/keys") == ["value"]
    await door.call(f"Counter/{name}/forget")
    assert await door.call(f"Counter/{name}/keys") == []


@check
async def lazy_state(door: FrontDoor, ledger: Ledger, name: str) -> None:
    assert await door.call(f"Lazy/{name}/bump") == [None, 1, ["value"]]
    assert await door.call(f"Lazy/{name}/bump") == [None, 2, ["value"]]


@check
async def workflows(door: FrontDoor, ledger: Ledger, name: str) -> None:
    invocation = await door.send(f"Signup/{name}/run", "Ada")
    while await door.call(f"Signup/{name}/click", "secret") != ["Ada", None]:
        await asyncio.sleep(0.01)
    assert (await door.attach(invocation)).json == "Ada secret"
    assert await door.call(f"Signup/{name}/clickTwice", "again") == 409
    assert (await door.post(f"Signup/{name}/run", "Eve")).status == 409
