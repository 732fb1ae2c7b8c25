"""Changed code under open orders: new ones take the new way, those that were past it the old one.

Run it:

    holdfast dev examples/patched.py:app
    curl localhost:8080/Shop/order/send --json '"tea"' -H 'idempotency-key: 1'
    curl localhost:8080/Shop/pack --json '"1"'

To see the old way, take the two lines of the gate out, send an order with key 2, and put them
back before you pack it.
"""

import holdfast as hf

shop = hf.Service("Shop")


def log(what: str) -> str:
    print(what, flush=True)
    return what


@shop.handler
async def order(ctx: hf.Context, item: str) -> str:
    done: list[str] = []
    if ctx.patched("look into the stock"):
        done.append(await ctx.run("look", log, "looked"))
    done.append(await ctx.run("charge", log, "charged"))
    await ctx.signal("packed", None)
    done.append(await ctx.run("ship", log, "shipped"))
    return f"{item}: {', '.join(done)}"


@shop.handler
async def pack(ctx: hf.Context, number: str) -> str:
    """Tell an order that it is packed, and wait for its end."""
    packed = hf.invocation(order, idempotency_key=number)
    ctx.send_signal(packed, "packed")
    return await ctx.attach(packed)


app = hf.App(shop)
