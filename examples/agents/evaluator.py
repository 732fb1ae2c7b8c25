"""An optimizer writes, an evaluator judges, until it is good or enough was tried.

holdfast dev examples/agents/evaluator.py:app
curl localhost:8080/Slogan/write --json '"umbrellas"'
"""

from provider import Provider

import holdfast as hf

slogan = hf.Service("Slogan")
TRIES_MAX = 4


@slogan.handler
async def write(ctx: hf.Context, product: str) -> str:
    text, verdict = "", "write a first version"
    for _ in range(TRIES_MAX):
        text = await llm.ask(f"Write a slogan for {product}. Before: {text!r}. Judge: {verdict}")
        verdict = await llm.ask(f"Judge: {text}")
        if verdict == "good":
            return text
    raise hf.TerminalError(f"no good slogan for {product} in {TRIES_MAX} tries: {verdict}")


def script(request) -> str:
    if request.prompt.startswith("Judge"):
        return "good" if request.prompt.endswith("!!") else "more enthusiasm"
    before = request.prompt.split("'")[1]
    return f"{before}!" if before else "Stay dry"


llm = Provider(script)
app = hf.App(slogan)
