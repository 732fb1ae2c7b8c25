"""Rollback: what an agent has booked is undone, last first, when a later tool fails.

holdfast dev examples/agents/rollback.py:app
curl localhost:8080/Travel/book --json '"Rome"'
curl localhost:8080/Travel/book --json '"Atlantis"'
curl -X POST localhost:8080/Travel/booked
"""

from provider import Provider

import holdfast as hf

travel = hf.Service("Travel")
bookings: set[str] = set()  # stands in for the systems of others


def reserve(what: str) -> str:
    if what == "hotel in Atlantis":
        raise hf.TerminalError("no hotels under water", code=409)
    bookings.add(what)
    return what


@travel.handler
async def book(ctx: hf.Context, city: str) -> str:
    plan = await llm.ask(f"What does one need in {city}?")
    async with hf.saga() as saga:
        for what in plan.split(", "):
            # The undo is registered before the step: no harm if it was never booked.
            saga.compensate(bookings.discard, what, name=f"cancel {what}")
            await ctx.run(f"book {what}", reserve, what)
    return f"booked: {plan}"


@travel.handler
async def booked(ctx: hf.Context) -> list[str]:
    return await ctx.run("look", lambda: sorted(bookings), type=list[str])


def script(request) -> str:
    city = request.prompt.rstrip("?").split()[-1]
    return f"flight to {city}, hotel in {city}"


llm = Provider(script)
app = hf.App(travel)
