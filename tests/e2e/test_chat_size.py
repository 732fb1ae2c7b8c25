"""A long conversation: each turn sends and writes all of it, and the disk has it about once."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from pydoc_data.topics import topics
from random import Random
from typing import Any

import apsw

import holdfast as hf

TURNS = 100
TOKENS = 200_000
BYTES_PER_TOKEN = 4
TIMES_MAX = 3

_WORDS = re.findall(r"\S+", " ".join(topics.values()))


def text(seed: str, size: int) -> str:
    """Words as frequent as in real prose, in an order that nothing can guess."""
    random = Random(seed)
    words: list[str] = []
    length = 0
    while length < size:
        words.append(random.choice(_WORDS))
        length += len(words[-1]) + 1
    return " ".join(words)


SYSTEM = {"role": "system", "content": text("system", 2_000)}
TOOLS = {"kind": "tools", "tools": [{"name": "search", "description": text("tool", 500)}]}

chat = hf.VirtualObject("Chat")


def ask_model(messages: list[Any], turn: int) -> dict[str, str]:
    """A model that says something else each time."""
    size = TOKENS * BYTES_PER_TOKEN // TURNS
    answer = {"role": "assistant", "content": text(f"answer {turn}", size * 3 // 4)}
    hf.describe_step(
        hf.ModelCall(
            provider="openai",
            request_model="gpt-5",
            response_model="gpt-5-2025-08-07",
            response_id=f"resp_{turn}",
            settings={"temperature": 0.2, "max_output_tokens": 4096},
            messages=[SYSTEM, TOOLS, *messages],
            answer=answer,
            usage=hf.TokenUsage(input=2_000 * turn, cached_input=1_900 * turn, output=1_500),
            finish_reasons=["stop"],
            latency_ms=1_200,
        )
    )
    return answer


@chat.handler
async def say(ctx: hf.Context, message: str) -> str:
    history: list[dict[str, str]] = await ctx.get("history") or []
    history.append({"role": "user", "content": message})
    answer = await ctx.run("model", ask_model, history, len(history) // 2)
    history.append(answer)
    ctx.set("history", history)
    return answer["content"]


async def test_a_hundred_turns_are_stored_in_three_times_their_text(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    said = [text(f"user {n}", TOKENS * BYTES_PER_TOKEN // TURNS // 4) for n in range(TURNS)]
    answers: list[str] = []
    async with hf.embedded(hf.App(chat), store=f"sqlite:{path}", durability="relaxed") as client:
        for message in said:
            answers.append(await client.call(say, message, key="me"))
    # Closing has moved all into the file.
    unique = sum(map(len, (*said, *answers, SYSTEM["content"], str(TOOLS))))
    assert unique >= TOKENS * BYTES_PER_TOKEN
    sizes = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    tables = dict(
        connection.execute(
            "SELECT name, sum(pgsize) FROM dbstat GROUP BY 1 ORDER BY 2 DESC LIMIT 8"
        )
    )
    assert sum(sizes.values()) <= TIMES_MAX * unique, (unique, sizes, tables)
    # Prose comes down to 40 % by itself: this is none that comes down further.
    assert len(zlib.compress("".join(answers).encode(), 9)) > 0.35 * sum(map(len, answers))
    # All of it is there: every prompt, as it was sent.
    (count,) = connection.execute("SELECT count(*) FROM detail").fetchall()[0]
    assert count == TURNS
    connection.close()
    print(unique, sizes, {name: round(size / unique, 2) for name, size in tables.items()})
