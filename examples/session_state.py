"""State that expires: a basket that is forgotten after a while, and a name that stays.

Run it:

    holdfast dev examples/session_state.py:app
    curl localhost:8080/Session/ada/login --json '"Ada"'
    curl localhost:8080/Session/ada/put --json '"lamp"'
    curl -X POST localhost:8080/Session/ada/show
    holdfast state get Session ada
    holdfast state set Session ada name '"Ada Lovelace"'
    holdfast state clear Session ada basket
"""

from datetime import timedelta

import holdfast as hf

session = hf.VirtualObject("Session")


@session.handler
async def login(ctx: hf.Context, name: str) -> None:
    """Remember a name for good."""
    ctx.set("name", name)


@session.handler
async def put(ctx: hf.Context, item: str) -> list[str]:
    """Put an item into the basket, which exists for half an hour after the last change."""
    basket = await ctx.get("basket", type=list[str]) or []
    basket.append(item)
    ctx.set("basket", basket, ttl=timedelta(minutes=30))
    return basket


@session.shared
async def show(ctx: hf.Context) -> str:
    """Show what there is. Does not wait for writers."""
    name = await ctx.get("name", type=str)
    basket = await ctx.get("basket", type=list[str]) or []
    return f"{name or 'nobody'}: {', '.join(basket) or 'nothing'}"


app = hf.App(session)
