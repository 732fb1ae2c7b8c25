"""Takes messages while a turn holds the lock of its chat. Its key is `"<chat>/<key>"`.

Each message starts a turn of its own, which waits for its chat like any other invocation. So
nothing hangs when a turn is killed: the next one begins, and finds its message here, unless an
earlier turn has taken it in. Taking is a call to this object, so a message is taken once.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import holdfast as hf
from holdfast.ai.session.message import Box, Letter, Said, Waiting

SERVICE = "HoldfastMailbox"
INTERRUPT = "holdfast.interrupt"
"""Name of the signal that tells a turn to stop."""
_STATE = "box"

mailbox = hf.VirtualObject(
    SERVICE,
    journal_retention=timedelta(0),
    documentation="Takes messages for chats that are in a turn.",
)
"""Serve it beside chats with `on_message="interrupt"` or `"steer"`."""


@mailbox.handler(name="put", private=True)
async def put(ctx: hf.Context, letter: Letter) -> str:
    """Start the turn of a message; interrupt the one before. Returns the id of the turn."""
    box = await _box(ctx)
    if letter.interrupts and box.last_turn:
        # One that has ended ignores it; one that waits finds it when it begins.
        ctx.send_signal(box.last_turn, INTERRUPT, box.count)
    turn_id = await ctx.send(
        f"{letter.chat}/turn",
        Said(letter.text, box.count),
        key=letter.key,
        idempotency_key=letter.unique,
    )
    waiting = [] if letter.interrupts else [*box.waiting, Waiting(box.count, letter.text)]
    _keep(ctx, Box(box.count + 1, turn_id, waiting))
    return turn_id


@mailbox.handler(name="claim", private=True)
async def claim(ctx: hf.Context, number: int) -> bool:
    """Take one message. Returns whether it was there: another turn may have taken it."""
    box = await _box(ctx)
    # Those before it belong to turns that were cancelled or killed before they began.
    left = [one for one in box.waiting if one.number > number]
    _keep(ctx, replace(box, waiting=left))
    return any(one.number == number for one in box.waiting)


@mailbox.handler(name="take", private=True)
async def take(ctx: hf.Context) -> list[str]:
    """Take all messages that wait, in the order in which they came."""
    box = await _box(ctx)
    if box.waiting:
        _keep(ctx, replace(box, waiting=[]))
    return [one.text for one in box.waiting]


@mailbox.shared(name="show")
async def show(ctx: hf.Context) -> list[str]:
    """Show the messages that wait for a turn which steers. Does not take them."""
    return [one.text for one in (await _box(ctx)).waiting]


async def _box(ctx: hf.Context) -> Box:
    return await ctx.get(_STATE, type=Box) or Box()


def _keep(ctx: hf.Context, box: Box) -> None:
    ctx.set(_STATE, box, type=Box)
