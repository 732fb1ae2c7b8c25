"""Calls: wait for an answer, send and go on, send for later; by function and by name.

Run it:

    holdfast dev examples/calls.py:app
    curl localhost:8080/Shop/order --json '"lamp"' -H 'idempotency-key: 7' -H 'x-customer: Ada'
    curl localhost:8080/restate/invocation/Shop/order/7/output
    curl localhost:8080/Shop/again --json '"7"'
    curl localhost:8080/Stock/lamp/take/send?delay=1s --json 2
"""

from datetime import timedelta

import holdfast as hf

shop = hf.Service("Shop")
stock = hf.VirtualObject("Stock")
mail = hf.Service("Mail", private=True)  # only handlers reach it, no client


@stock.handler
async def take(ctx: hf.Context, count: int) -> int:
    """Take from the stock of one item: calls with one key run one after another."""
    taken = (await ctx.get("taken", type=int) or 0) + count
    ctx.set("taken", taken)
    return taken


@mail.handler
async def write(ctx: hf.Context, text: str) -> None:
    await ctx.run("smtp", print, f"To {ctx.headers['x-customer']}: {text}", flush=True)


@shop.handler
async def order(ctx: hf.Context, item: str) -> str:
    three = hf.RetryPolicy(max_attempts=3, on_max_attempts="kill")
    taken = await ctx.call(take, 1, key=item, retry=three)
    to = {"x-customer": ctx.headers.get("x-customer", "you")}  # they go no further by themselves
    ctx.send(write, f"your {item} is on its way", headers=to)
    ctx.send("Mail/write", f"do you like your {item}?", headers=to, delay=timedelta(days=7))
    return f"{item} ordered, {taken} taken"


@shop.handler
async def again(ctx: hf.Context, number: str) -> str:
    """Read how an order ended, by the key that it was made with."""
    return await ctx.attach(hf.invocation(order, idempotency_key=number))


app = hf.App(shop, stock, mail)
