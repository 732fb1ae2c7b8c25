"""Handlers for `holdfast mcp`: what agents may call, and what they may not."""

from __future__ import annotations

from dataclasses import dataclass

from ledger import note

import holdfast as hf


@dataclass
class City:
    name: str
    days: int = 1


@dataclass
class Forecast:
    city: str
    text: str


weather = hf.Service("Weather", mcp=True)
cart = hf.VirtualObject("Shop.Cart")
wedding = hf.Workflow("Wedding")


@weather.handler
async def forecast(ctx: hf.Context, city: City) -> Forecast:
    """Say how the weather will be."""
    await ctx.run("look", note, f"look {city.name}")
    if city.name == "Atlantis":
        raise hf.TerminalError("there is no Atlantis", code=404)
    return Forecast(city.name, f"sunny for {city.days} days")


@weather.handler
async def watch(ctx: hf.Context, city: str) -> str:
    """Watch the weather until it changes."""
    signal = ctx.awakeable(type=str)
    await ctx.run("wait", note, f"watch {city} {ctx.id} {signal.id}")
    try:
        return f"{city}: {await signal}"
    except hf.TerminalError:
        await ctx.run("given up", note, f"given up {city}")
        raise


@weather.handler(private=True)
async def inner(ctx: hf.Context) -> None: ...


@weather.handler(mcp=False)
async def quiet(ctx: hf.Context) -> str:
    return "quiet"


@weather.handler
async def picture(ctx: hf.Context) -> bytes:
    return b"\x00"


@cart.handler(mcp=True)
async def add(ctx: hf.Context, item: str) -> list[str]:
    items = [*(await ctx.get("items", type=list[str]) or []), item]
    ctx.set("items", items)
    return items


@wedding.main(mcp=True)
async def marry(ctx: hf.Context, names: list[str]) -> str:
    await ctx.run("marry", note, f"marry {' '.join(names)}")
    return " and ".join(names)


app = hf.App(weather, cart, wedding)
