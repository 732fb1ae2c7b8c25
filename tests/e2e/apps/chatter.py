"""An agent whose calls of a model say what they were."""

from __future__ import annotations

from typing import Any

from ledger import note

import holdfast as hf

chatter = hf.Service("Chatter")


def ask_model(messages: list[Any]) -> dict[str, str]:
    turn = len(messages) // 2
    note(f"model {turn}")
    answer = {"role": "assistant", "content": f"answer {turn}"}
    hf.describe_step(
        hf.ModelCall(
            provider="openai",
            request_model="gpt-5-mini",
            messages=[{"role": "system", "content": "be brief"}, *messages],
            answer=answer,
            usage=hf.TokenUsage(input=100 * (turn + 1), output=10),
        )
    )
    return answer


@chatter.handler
async def talk(ctx: hf.Context, turns: int) -> str:
    messages: list[Any] = []
    for turn in range(turns):
        messages.append({"role": "user", "content": f"question {turn}"})
        messages.append(await ctx.run("model", ask_model, messages))
        await ctx.sleep(0.05)
    return "done"


app = hf.App(chatter)
