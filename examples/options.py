"""Options: of a service for all its handlers, of a handler for itself.

Run it:

    holdfast dev examples/options.py:app
    curl localhost:8080/Mailer/newsletter --json '["Ada", "Bo", "Cy", "Di"]'
    holdfast services ls --json
    holdfast services config Mailer --journal-retention 7d
"""

import asyncio
from datetime import timedelta

import holdfast as hf

mailer = hf.Service(
    "Mailer",
    retry=hf.RetryPolicy(initial_interval=0.1, max_interval=timedelta(minutes=1)),
    journal_retention=timedelta(hours=1),  # how long a completed invocation can be looked at
    idempotency_retention=timedelta(days=3),  # how long a repeated request gets the first answer
    documentation="Sends mail, and never two to one person at once.",
    metadata={"team": "growth"},
)
busy: list[int] = [0, 0]  # now, and the most so far


async def smtp(to: str) -> None:
    busy[0] += 1
    busy[1] = max(busy)
    await asyncio.sleep(0.05)
    busy[0] -= 1


@mailer.handler(private=True, concurrency=2, invocation_timeout=timedelta(minutes=5))
async def deliver(ctx: hf.Context, to: str) -> None:
    """Send one mail. Two at a time, each within five minutes; clients cannot call it."""
    await ctx.run("smtp", smtp, to)


@mailer.handler(journal_retention=timedelta(days=30), metadata={"audit": "yes"})
async def newsletter(ctx: hf.Context, people: list[str]) -> str:
    """Send to all. The handler's retention wins over that of the service."""
    await asyncio.gather(*(ctx.call(deliver, person) for person in people))
    most = await ctx.run("count", max, busy)
    return f"{len(people)} sent, {most} at once"


app = hf.App(mailer)
