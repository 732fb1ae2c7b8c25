"""Signals: tell a running agent something, and ask for what it knows.

Run it:

    holdfast dev examples/signal.py:app
    curl localhost:8080/Notes/take/send --json '"trip"' -H 'idempotency-key: trip'
    curl localhost:8080/holdfast/v1/invocations/$INVOCATION_ID/signals/note --json '"pack a hat"'
    curl localhost:8080/holdfast/v1/invocations/$INVOCATION_ID/signals/note --json '"feed the cat"'
    curl localhost:8080/Notes/finish --json '"trip"'
"""

import asyncio

import holdfast as hf

notes = hf.Service("Notes")


@notes.handler
async def take(ctx: hf.Context, title: str) -> str:
    """Take notes until somebody says that it is enough, or a day has passed."""
    lines = [f"# {title}"]
    try:
        async with asyncio.timeout(24 * 3600):
            while True:
                lines.append(await ctx.signal("note", str))
    except TimeoutError:
        lines.append("(the day is over)")
    except hf.TerminalError as error:  # a rejection
        lines.append(f"({error.message})")
    return "; ".join(lines)


@notes.handler
async def finish(ctx: hf.Context, title: str) -> str:
    running = hf.invocation(take, idempotency_key=title)
    ctx.reject_signal(running, "note", "enough")
    return await ctx.attach(running)


app = hf.App(notes)
