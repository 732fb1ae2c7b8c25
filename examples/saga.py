"""A saga: when the last booking fails, or somebody cancels, the others are taken back.

Run it:

    holdfast dev examples/saga.py:app
    curl localhost:8080/Travel/book --json '"Oslo"'
    curl localhost:8080/Travel/book --json '"Atlantis"'
    curl localhost:8080/Travel/count
"""

import holdfast as hf

travel = hf.Service("Travel")
booked: set[str] = set()  # stands in for the systems of others


async def reserve(what: str, booking_id: str) -> None:
    booked.add(f"{what} {booking_id}")


async def release(what: str, booking_id: str) -> None:
    booked.discard(f"{what} {booking_id}")  # no harm if it is not there


async def pay(city: str) -> None:
    if city == "Atlantis":
        raise hf.TerminalError("nobody sells tickets to Atlantis", code=422)


@travel.handler
async def book(ctx: hf.Context, city: str) -> str:
    async with hf.saga() as saga:
        for what in ("flight", "hotel"):
            booking_id = str(ctx.uuid())
            saga.compensate(release, what, booking_id, name=f"release {what}")
            await ctx.run(f"reserve {what}", reserve, what, booking_id)
        await ctx.run("pay", pay, city)
    return f"Have a good time in {city}"


@travel.handler
async def count(ctx: hf.Context) -> int:
    return await ctx.run("count", len, booked)


app = hf.App(travel)
