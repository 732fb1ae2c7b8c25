"""What every server must give the services of `primitive_app`, over whatever carrier."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.compat.front_door import FrontDoor, until
from tests.compat.primitive_app import calls, seen

Check = Callable[[FrontDoor, str], Awaitable[None]]
CHECKS: dict[str, Check] = {}
"""By name. Each gets a name that no other test uses."""


REPEATABLE = (
    "parallel_branches",
    "timers",
    "terminal_failures",
    "send_and_attach",
    "signals",
    "a_child_is_cancelled",
    "races",
    "state",
    "lazy_state",
    "workflows",
)
"""Those that do not mind if steps run more than once, or attempts fail."""


def check(function: Check) -> Check:
    CHECKS[getattr(function, "__name__")] = function  # noqa: B009
    return function


@check
async def greeting(door: FrontDoor, name: str) -> None:
    assert await door.call("Steps/greet", name) == f"Hello {name}"
    headers = await door.call("Steps/headers", None, **{"x-mine": name})
    assert headers["x-mine"] == name


@check
async def steps_run_once(door: FrontDoor, name: str) -> None:
    done = await door.call("Steps/count", 5)
    assert [text.split()[1] for text in done] == ["0", "1", "2", "3", "4"]
    assert [calls[text] for text in done] == [1] * 5


@check
async def parallel_branches(door: FrontDoor, name: str) -> None:
    assert await door.call("Steps/together", 5) == [n * 2 + n * n for n in range(5)]


@check
async def timers(door: FrontDoor, name: str) -> None:
    assert await door.call("Steps/nap") == "timed out"


@check
async def the_clock_is_the_same_in_each_attempt(door: FrontDoor, name: str) -> None:
    times = await door.call("Steps/clock", name)
    assert seen[name] == [times] * 3
    assert times == sorted(times)
    assert times[3] - times[0] >= 0.01
    assert times[0] > 1.7e9


@check
async def randomness(door: FrontDoor, name: str) -> None:
    numbers = await door.call("Steps/random", name)
    assert len(seen[name]) >= 2
    assert all(each == numbers for each in seen[name])


@check
async def failures_are_retried(door: FrontDoor, name: str) -> None:
    assert await door.call("Steps/fail_twice", name) == 3
    assert calls[name] == 3


@check
async def a_step_has_a_policy_of_its_own(door: FrontDoor, name: str) -> None:
    assert await door.call("Steps/flaky_step", name) == f"gave up: ValueError: {name}"
    assert calls[name] == 3


@check
async def chosen_waits_count(door: FrontDoor, name: str) -> None:
    answer = await door.post("Steps/not_ready", name)
    assert answer.status == 500
    assert b"not ready" in answer.body
    assert calls[name] == 3


@check
async def terminal_failures(door: FrontDoor, name: str) -> None:
    assert (await door.post("Steps/reject", 418)).status == 418
    assert await door.call("Steps/call", 418) == "418 not today"


@check
async def send_and_attach(door: FrontDoor, name: str) -> None:
    assert await door.call("Steps/send_and_attach", 3) == [9, 16]


@check
async def awakeables(door: FrontDoor, name: str) -> None:
    invocation = await door.send("Steps/wait_for_a_person", name)
    await until(lambda: calls[f"asked {seen.get(name)}"])
    await door.call("Steps/answer", seen[name])
    assert (await door.attach(invocation)).json == "they said yes"
    assert calls[f"asked {seen[name]}"] == 1


@check
async def an_awakeable_is_resolved_from_outside(door: FrontDoor, name: str) -> None:
    invocation = await door.send("Steps/wait_for_a_person", name)
    await until(lambda: calls[f"asked {seen.get(name)}"])
    url = f"{door.ingress}/restate/awakeables/{seen[name]}/resolve"
    assert (await door.ask("POST", url, "no")).status == 202
    assert (await door.attach(invocation)).json == "they said no"


@check
async def signals(door: FrontDoor, name: str) -> None:
    invocation = await door.send("Steps/listen", name)
    await until(lambda: name in seen)
    await door.call("Steps/tell", [invocation, "one", "two"])
    assert (await door.attach(invocation)).json == ["one", "two"]


@check
async def cancellation(door: FrontDoor, name: str) -> None:
    invocation = await door.send("Steps/compensate", name)
    await until(lambda: calls[f"child of {name} began"])
    answer = await door.ask("PATCH", f"{door.admin}/invocations/{invocation}/cancel")
    assert answer.status in (200, 202), answer
    assert (await door.attach(invocation)).json == "undone after 409"
    await until(lambda: calls[f"child of {name} cancelled"])
    assert calls[f"undone {name}"] == 1


@check
async def a_child_is_cancelled(door: FrontDoor, name: str) -> None:
    assert await door.call("Steps/cancel_child", name) == "409"


@check
async def sagas(door: FrontDoor, name: str) -> None:
    assert await door.call("Steps/undo", name) == "no car"
    happened = ("flight", "hotel", "no hotel", "no flight")
    assert [calls[f"{name} {what}"] for what in happened] == [1] * 4


@check
async def races(door: FrontDoor, name: str) -> None:
    assert await door.call("Steps/first_of", name) == "0 9"


@check
async def state(door: FrontDoor, name: str) -> None:
    adds = [door.call(f"Counter/{name}/add", 1) for _ in range(5)]
    assert sorted(await asyncio.gather(*adds)) == [1, 2, 3, 4, 5]
    assert await door.call(f"Counter/{name}/get") == 5
    assert await door.call(f"Counter/{name}/empty") == [["other"], []]
    assert await door.call(f"Counter/{name}/get") == 0


@check
async def lazy_state(door: FrontDoor, name: str) -> None:
    assert await door.call(f"Lazy/{name}/bump") == [None, 1, ["value"]]
    assert await door.call(f"Lazy/{name}/bump") == [None, 2, ["value"]]


@check
async def workflows(door: FrontDoor, name: str) -> None:
    invocation = await door.send(f"Signup/{name}/run", "Ada")
    while await door.call(f"Signup/{name}/click", "secret") != "Ada":
        await asyncio.sleep(0.01)
    assert (await door.attach(invocation)).json == "Ada secret"


@check
async def what_has_no_place_in_the_protocol_is_refused(door: FrontDoor, name: str) -> None:
    assert await door.call("Steps/ours_only") == "HF1385"
    assert await door.call(f"Counter/{name}/forget") == "HF1385"
