"""What every server must give the services of `primitive_app`, over whatever carrier."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import holdfast as hf
from tests.compat.front_door import Answer, until
from tests.compat.primitive_app import calls, seen


class Door(Protocol):
    """What a client and an operator reach: over HTTP, or in the server's process."""

    async def post(self, path: str, value: Any = None, **headers: str) -> Answer: ...
    async def call(self, path: str, value: Any = None, **headers: str) -> Any: ...
    async def send(self, path: str, value: Any = None) -> str: ...
    async def attach(self, invocation_id: str) -> Answer: ...
    async def cancel(self, invocation_id: str) -> None: ...
    async def resolve(self, awakeable_id: str, value: Any) -> None: ...
    async def signal(self, invocation_id: str, name: str, value: Any) -> None: ...


Check = Callable[[Door, str], Awaitable[None]]
CHECKS: dict[str, Check] = {}
"""By name: what Restate's protocol has a place for. Each gets a name that no other test uses."""
OURS: dict[str, Check] = {}
"""What only our server gives, over the worker socket and in process."""
PROTOCOL_ONLY = ("what_has_no_place_in_the_protocol_is_refused",)
"""Those of `CHECKS` that do not hold where `OURS` do."""


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
    "sync_handlers",
    "sends_at_a_time",
)
"""Those that do not mind if steps run more than once, or attempts fail."""


def check(function: Check) -> Check:
    CHECKS[getattr(function, "__name__")] = function  # noqa: B009
    return function


def our_check(function: Check) -> Check:
    OURS[getattr(function, "__name__")] = function  # noqa: B009
    return function


@check
async def greeting(door: Door, name: str) -> None:
    assert await door.call("Steps/greet", name) == f"Hello {name}"
    headers = await door.call("Steps/headers", None, **{"x-mine": name})
    assert headers["x-mine"] == name


@check
async def steps_run_once(door: Door, name: str) -> None:
    done = await door.call("Steps/count", 5)
    assert [text.split()[1] for text in done] == ["0", "1", "2", "3", "4"]
    assert [calls[text] for text in done] == [1] * 5


@check
async def parallel_branches(door: Door, name: str) -> None:
    assert await door.call("Steps/together", 5) == [n * 2 + n * n for n in range(5)]


@check
async def timers(door: Door, name: str) -> None:
    assert await door.call("Steps/nap") == "timed out"


@check
async def the_clock_is_the_same_in_each_attempt(door: Door, name: str) -> None:
    times = await door.call("Steps/clock", name)
    assert seen[name] == [times] * 3
    assert times == sorted(times)
    assert round(times[3] - times[0], 3) >= 0.01
    assert times[0] > 1.7e9


@check
async def randomness(door: Door, name: str) -> None:
    numbers = await door.call("Steps/random", name)
    assert len(seen[name]) >= 2
    assert all(each == numbers for each in seen[name])


@check
async def failures_are_retried(door: Door, name: str) -> None:
    assert await door.call("Steps/fail_twice", name) == 3
    assert calls[name] == 3


@check
async def a_step_has_a_policy_of_its_own(door: Door, name: str) -> None:
    assert await door.call("Steps/flaky_step", name) == f"gave up: ValueError: {name}"
    assert calls[name] == 3


@check
async def chosen_waits_count(door: Door, name: str) -> None:
    answer = await door.post("Steps/not_ready", name)
    assert answer.status == 500
    assert b"not ready" in answer.body
    assert calls[name] == 3


@check
async def terminal_failures(door: Door, name: str) -> None:
    assert (await door.post("Steps/reject", 418)).status == 418
    assert await door.call("Steps/call", 418) == "418 not today"


@check
async def send_and_attach(door: Door, name: str) -> None:
    assert await door.call("Steps/send_and_attach", 3) == [9, 16]


@check
async def awakeables(door: Door, name: str) -> None:
    invocation = await door.send("Steps/wait_for_a_person", name)
    await until(lambda: calls[f"asked {seen.get(name)}"])
    await door.call("Steps/answer", seen[name])
    assert (await door.attach(invocation)).json == "they said yes"
    assert calls[f"asked {seen[name]}"] == 1


@check
async def an_awakeable_is_resolved_from_outside(door: Door, name: str) -> None:
    invocation = await door.send("Steps/wait_for_a_person", name)
    await until(lambda: calls[f"asked {seen.get(name)}"])
    await door.resolve(seen[name], "no")
    assert (await door.attach(invocation)).json == "they said no"


@check
async def signals(door: Door, name: str) -> None:
    invocation = await door.send("Steps/listen", name)
    await until(lambda: name in seen)
    await door.call("Steps/tell", [invocation, "one", "two"])
    assert (await door.attach(invocation)).json == ["one", "two"]


@check
async def cancellation(door: Door, name: str) -> None:
    invocation = await door.send("Steps/compensate", name)
    await until(lambda: calls[f"child of {name} began"])
    await door.cancel(invocation)
    assert (await door.attach(invocation)).json == "undone after 409"
    await until(lambda: calls[f"child of {name} cancelled"])
    assert calls[f"undone {name}"] == 1


@check
async def a_child_is_cancelled(door: Door, name: str) -> None:
    assert await door.call("Steps/cancel_child", name) == "409"


@check
async def sagas(door: Door, name: str) -> None:
    assert await door.call("Steps/undo", name) == "no car"
    happened = ("flight", "hotel", "no hotel", "no flight")
    assert [calls[f"{name} {what}"] for what in happened] == [1] * 4


@check
async def races(door: Door, name: str) -> None:
    assert await door.call("Steps/first_of", name) == "0 9"


@check
async def state(door: Door, name: str) -> None:
    adds = [door.call(f"Counter/{name}/add", 1) for _ in range(5)]
    assert sorted(await asyncio.gather(*adds)) == [1, 2, 3, 4, 5]
    assert await door.call(f"Counter/{name}/get") == 5
    assert await door.call(f"Counter/{name}/empty") == [["other"], []]
    assert await door.call(f"Counter/{name}/get") == 0


@check
async def lazy_state(door: Door, name: str) -> None:
    assert await door.call(f"Lazy/{name}/bump") == [None, 1, ["value"]]
    assert await door.call(f"Lazy/{name}/bump") == [None, 2, ["value"]]


@check
async def workflows(door: Door, name: str) -> None:
    invocation = await door.send(f"Signup/{name}/run", "Ada")
    while await door.call(f"Signup/{name}/click", "secret") != "Ada":
        await asyncio.sleep(0.01)
    assert (await door.attach(invocation)).json == "Ada secret"


@check
async def what_has_no_place_in_the_protocol_is_refused(door: Door, name: str) -> None:
    assert await door.call("Steps/ours_only") == "HF1385"
    assert await door.call(f"Counter/{name}/forget") == "HF1385"


@check
async def sync_handlers(door: Door, name: str) -> None:
    assert await door.call("Steps/blocking", name) == [f"{name} blocks", 9, "1", "2"]


@check
async def programs_that_change(door: Door, name: str) -> None:
    assert await door.call("Steps/changed", name) == ["work", "behind"]
    assert await door.call("Steps/changed", name) == ["before", "work", "behind"]


@check
async def sends_at_a_time(door: Door, name: str) -> None:
    # Times in the protocol are whole milliseconds.
    assert -0.001 <= await door.call("Steps/send_at", 0.02) < 5
    assert await door.call("Steps/send_at", -60) >= 60


@our_check
async def results_are_found_by_key(door: Door, name: str) -> None:
    keyed = {"idempotency-key": f"{name} outside"}
    assert await door.call("Steps/greet", name, **keyed) == f"Hello {name}"
    assert await door.call("Steps/greet", "nobody", **keyed) == f"Hello {name}"
    found = hf.invocation("Steps/greet", idempotency_key=f"{name} outside")
    assert (await door.attach(found)).json == f"Hello {name}"
    begun = await door.send(f"Signup/{name}/run", "Ada")
    assert begun == hf.invocation("Signup/run", key=name)
    while await door.call(f"Signup/{name}/click", "secret") != "Ada":
        await asyncio.sleep(0.01)
    assert (await door.attach(begun)).json == "Ada secret"
    assert await door.call("Steps/attach_by_key", name) == [f"Hello {name}", "Ada secret"]


@our_check
async def a_running_step_is_cancelled_at_once(door: Door, name: str) -> None:
    invocation = await door.send("Steps/wander", name)
    await until(lambda: calls[f"{name} wanders"])
    async with asyncio.timeout(1):
        await door.cancel(invocation)
        await until(lambda: calls[f"{name} stops"])
        assert (await door.attach(invocation)).status == 409
    assert calls[f"{name} wanders"] == 1


@our_check
async def signals_from_outside(door: Door, name: str) -> None:
    invocation = await door.send("Steps/listen", name)
    await door.signal(invocation, "word", "one")
    await door.signal(invocation, "word", "two")
    assert (await door.attach(invocation)).json == ["one", "two"]


@our_check
async def a_call_has_a_policy_of_its_own(door: Door, name: str) -> None:
    assert await door.call("Steps/call_with_policy", name) == f"ValueError: {name}"
    assert calls[name] == 2
    assert await door.call("Steps/ours_only") == "taken"


@our_check
async def state_expires(door: Door, name: str) -> None:
    assert await door.call(f"Counter/{name}/lend") == [7, None, ["other"]]
    assert await door.call(f"Counter/{name}/get") == 0
    assert await door.call(f"Counter/{name}/forget") == "taken"
