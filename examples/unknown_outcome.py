"""A process that dies inside of a step: finding out whether it happened, instead of doing it twice.

Run it:

    holdfast dev examples/unknown_outcome.py:app
    curl localhost:8080/Shop/buy --json '25'
    curl localhost:8080/Shop/receipts
"""

from pathlib import Path

import holdfast as hf

shop = hf.Service("Shop")
bank = Path("receipts")  # a folder stands in for the system of others


def charge(amount: int) -> str:
    bank.mkdir(exist_ok=True)
    (bank / hf.idempotency_key()).write_text(f"{amount} paid")
    return f"{amount} paid"


def look_up(key: str, amount: int) -> hf.Happened[str] | hf.NotHappened:
    receipt = bank / key
    return hf.Happened(receipt.read_text()) if receipt.exists() else hf.NotHappened()


@shop.handler
async def buy(ctx: hf.Context, amount: int) -> str:
    return await ctx.run("charge", charge, amount, on_unknown=look_up)


@shop.handler
async def receipts(ctx: hf.Context) -> int:
    return await ctx.run("count", lambda: len(list(bank.iterdir())))


app = hf.App(shop)
