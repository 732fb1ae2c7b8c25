"""A service with one step: it runs once, even if the process dies right after it.

Run it:

    holdfast dev examples/hello.py:app
    curl localhost:8080/Greeter/greet --json '"Ada"'
    curl localhost:8080/Greeter/greet --json '"Ada"' -H 'idempotency-key: order-66'
    curl localhost:8080/Greeter/greet/send?delay=2s --json '"Grace"'
"""

import time

import holdfast as hf

greeter = hf.Service("Greeter")


def look_at_clock() -> str:
    return time.strftime("%H:%M")


@greeter.handler
async def greet(ctx: hf.Context, name: str) -> str:
    """Greet somebody. On a replay the time is the recorded one."""
    now = await ctx.run("look at the clock", look_at_clock)
    return f"Hello {name}, it is {now}"


app = hf.App(greeter)
