"""Chats: memory, and what a second message does during a turn, in virtual time and with crashes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

import holdfast as hf
from holdfast.ai.session import Chat, OnMessage, Session, Trim, mailbox
from holdfast.domain.errors import TerminalError, UsageError
from holdfast.testing import Environment, environment


@dataclass
class Model:
    """A model that answers what it is asked, and how often it was asked to the end."""

    answered: list[str] = field(default_factory=list[str])
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Answers to "slow" wait for it."""

    async def ask(self, text: str) -> str:
        self.begun.set()
        try:
            if "slow" in text:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.stopped.set()
            raise
        self.answered.append(text)
        return f"re: {text}"

    async def turn(self, session: Session, text: str) -> str:
        """Ask, and ask again as long as there is something new."""
        prompt = session.prompt
        while True:
            reply = await session.ctx.run("model call", self.ask, prompt)
            session.append(prompt, reply)
            if not (more := await session.steering()):
                return reply
            prompt = "+".join(more)


def app(model: Model, on_message: OnMessage = "queue", trim: Trim | None = None) -> hf.App:
    chat = Chat("Chat", model.turn, on_message=on_message, trim=trim)
    return hf.App(chat) if on_message == "queue" else hf.App(chat, mailbox)


async def say(env: Environment, text: str) -> str:
    return (await env.client.send("Chat/send", text, key="ada")).invocation_id


async def history(env: Environment) -> list[tuple[str, str, str | None]]:
    turns: list[dict[str, Any]] = await env.client.call("Chat/history", key="ada")
    return [(turn["text"], turn["status"], turn.get("reply")) for turn in turns]


ALL: tuple[OnMessage, ...] = ("queue", "interrupt", "steer")


@pytest.mark.parametrize("on_message", ALL)
@pytest.mark.parametrize("crash", ["before:model call", "during:model call", "after:model call"])
async def test_a_turn_that_crashes_is_said_once(on_message: OnMessage, crash: str) -> None:
    model = Model()
    async with environment(app(model, on_message), always_replay=True) as env:
        assert await env.client.call("Chat/send", "one", key="ada") == {
            "text": "re: one",
            "status": "done",
        }
        env.crash_at(crash)
        await env.client.call("Chat/send", "two", key="ada")
        assert len(env.crashes) == 1
        assert await history(env) == [("one", "done", "re: one"), ("two", "done", "re: two")]
        assert model.answered.count("one") == 1
        await env.client.call("Chat/clear", key="ada")
        assert await history(env) == []


async def test_a_turn_sees_what_was_appended_before_and_others_do_not() -> None:
    seen: list[list[Any]] = []

    async def turn(session: Session, text: str) -> str:
        seen.append(session.messages)
        session.append({"role": "user", "content": text})
        return text

    async with environment(hf.App(Chat("Chat", turn))) as env:
        for key, text in (("ada", "one"), ("bob", "two"), ("ada", "three")):
            await env.client.call("Chat/send", text, key=key)
    assert seen == [[], [], [{"role": "user", "content": "one"}]]


async def test_queue_a_message_waits_for_the_turn() -> None:
    model = Model()
    async with environment(app(model)) as env:
        first = await say(env, "slow")
        await model.begun.wait()
        second = await say(env, "two")
        assert await history(env) == [("slow", "running", None)]
        model.gate.set()
        assert (await env.client.attach(first))["text"] == "re: slow"
        assert (await env.client.attach(second))["text"] == "re: two"


@pytest.mark.parametrize("always_replay", [False, True])
async def test_interrupt_the_turn_stops_and_the_new_one_knows_what_was_said(
    always_replay: bool,
) -> None:
    model = Model()
    async with environment(app(model, "interrupt"), always_replay=always_replay) as env:
        first = await say(env, "slow")
        await model.begun.wait()
        second = await say(env, "two")
        async with asyncio.timeout(1):
            await model.stopped.wait()
        assert await env.client.attach(first) == {"text": None, "status": "interrupted"}
        model.gate.set()
        assert (await env.client.attach(second))["text"] == "re: slow\n\ntwo"
        # It was never finished, also not by a replay.
        assert model.answered == ["slow\n\ntwo"]
        assert await history(env) == [
            ("slow", "interrupted", None),
            ("two", "done", "re: slow\n\ntwo"),
        ]


async def test_interrupt_keeps_what_was_appended_and_stops_what_is_called() -> None:
    helper = hf.Service("Helper")

    @helper.handler
    async def think(ctx: hf.Context) -> str:
        await ctx.sleep(3600)
        return "thought"

    async def turn(session: Session, text: str) -> str:
        session.append(f"I heard {text}")
        return text if session.messages[1:] else await session.ctx.call(think)

    chat = Chat("Chat", turn, on_message="interrupt")
    async with environment(hf.App(chat, mailbox, helper)) as env:
        first = await say(env, "one")
        await env.settle()
        assert (await env.client.call("Chat/send", "two", key="ada"))["text"] == "two"
        assert (await env.client.attach(first))["status"] == "interrupted"
        assert [turn[1] for turn in await history(env)] == ["interrupted", "done"]


async def test_interrupt_of_a_turn_that_has_not_begun() -> None:
    model = Model()
    async with environment(app(model, "interrupt")) as env:
        sent = [await say(env, f"slow {n}") for n in range(4)]
        model.gate.set()
        last = await env.client.attach(sent[-1])
        assert last["status"] == "done"
        turns = await history(env)
        assert len(turns) == 4
        for n in range(4):
            # Every message got to the model: in its own turn, or before that of a later one.
            assert any(f"slow {n}" in text for text in model.answered)


@pytest.mark.parametrize("crash", [None, "after:model call", "during:model call"])
async def test_steer_the_turn_takes_the_message_in(crash: str | None) -> None:
    model = Model()
    async with environment(app(model, "steer"), always_replay=True) as env:
        first = await say(env, "slow")
        await model.begun.wait()
        second, third = await say(env, "two"), await say(env, "three")
        while not await waits(env, 2):
            await asyncio.sleep(0.005)
        if crash is not None:
            env.crash_at(crash)
        model.gate.set()
        answers = [await env.client.attach(each) for each in (first, second, third)]
        taken = {"two+three", "three+two"} & set(model.answered)
        assert len(taken) == 1
        assert model.answered.count("slow") == 1 + (crash == "during:model call")
        reply = f"re: {taken.pop()}"
        assert [one["text"] for one in answers] == [reply] * 3
        assert [one["status"] for one in answers] == ["done", "steered", "steered"]
        assert await history(env) == [("slow", "done", reply)]


async def waits(env: Environment, count: int) -> bool:
    """Return whether so many messages wait in the mailbox."""
    return len(await env.client.call("HoldfastMailbox/show", key="Chat/ada")) == count


async def test_steer_a_turn_that_does_not_ask_leaves_the_message_to_the_next() -> None:
    gate, begun = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        begun.set()
        await gate.wait()

    async def turn(session: Session, text: str) -> str:
        await session.ctx.run("wait", wait)
        return f"re: {text}"

    async with environment(hf.App(Chat("Chat", turn, on_message="steer"), mailbox)) as env:
        first = await say(env, "one")
        await begun.wait()
        second = await say(env, "two")
        gate.set()
        assert (await env.client.attach(first))["text"] == "re: one"
        assert await env.client.attach(second) == {"text": "re: two", "status": "done"}


async def test_a_turn_that_fails_or_is_cancelled_says_so_and_the_next_goes_on() -> None:
    async def turn(session: Session, text: str) -> str:
        if text == "bad":
            raise TerminalError("no", code=400)
        if text == "long":
            await session.ctx.sleep(3600)
        return session.prompt

    async with environment(hf.App(Chat("Chat", turn))) as env:
        with pytest.raises(TerminalError, match="no"):
            await env.client.call("Chat/send", "bad", key="ada")
        cancelled = await say(env, "long")
        await env.settle()
        await env.client.cancel(cancelled)
        assert (await env.client.call("Chat/send", "hi", key="ada"))["text"] == "bad\n\nlong\n\nhi"
        assert [turn[1] for turn in await history(env)] == ["failed", "interrupted", "done"]


async def test_old_turns_are_summarised() -> None:
    seen: list[list[str]] = []

    async def turn(session: Session, text: str) -> str:
        seen.append(session.messages)
        session.append(f"user {text}", f"chat {text}")
        return text

    async def summarise(messages: list[str]) -> str:
        return f"({len(messages)}: {messages[0]})"

    chat = Chat("Chat", turn, trim=Trim(above=2, to=1, summarise=summarise))
    async with environment(hf.App(chat)) as env:
        for text in "abcdef":
            await env.client.call("Chat/send", text, key="ada")
        assert [turn[0] for turn in await history(env)] == ["e", "f"]
    assert seen[2] == ["user a", "chat a", "user b", "chat b"]
    assert seen[3] == ["(4: user a)", "user c", "chat c"]
    assert seen[5] == ["(5: (4: user a))", "user e", "chat e"]


async def test_what_cannot_be_is_refused() -> None:
    async def turn(session: Session, text: str) -> str:
        return text

    def sync(session: Session, text: str) -> str:
        return text

    wrong: list[Any] = [
        lambda: Chat("Chat", turn, on_message="drop"),  # type: ignore[arg-type]
        lambda: Chat("Chat", sync),  # type: ignore[arg-type]
        lambda: Trim(above=1, to=2),
    ]
    for make in wrong:
        with pytest.raises(UsageError) as refused:
            make()
        assert refused.value.code == "HF0630"


@pytest.mark.parametrize("crash", ["before:model call", "during:model call", "after:model call"])
async def test_interrupt_an_interrupted_turn_stays_so_when_the_next_one_crashes(crash: str) -> None:
    model = Model()
    async with environment(app(model, "interrupt")) as env:
        first = await say(env, "slow")
        await model.begun.wait()
        env.crash_at(crash)
        second = await say(env, "two")
        assert (await env.client.attach(first))["status"] == "interrupted"
        model.gate.set()
        assert (await env.client.attach(second))["status"] == "done"
        assert [turn[1] for turn in await history(env)] == ["interrupted", "done"]
