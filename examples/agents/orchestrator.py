"""An orchestrator plans, workers do the parts, and the orchestrator puts them together.

The plan decides how many workers there are. Each is an invocation of its own: it may run on another
machine, and fails and is retried alone.

    holdfast dev examples/agents/orchestrator.py:app
    curl localhost:8080/Research/report --json '"rivers, lakes, seas"'
"""

import asyncio

from provider import Provider

import holdfast as hf

research = hf.Service("Research")
worker = hf.Service("Worker")


@worker.handler
async def study(ctx: hf.Context, part: str) -> str:
    return await llm.ask(f"Study: {part}")


@research.handler
async def report(ctx: hf.Context, topic: str) -> str:
    plan = await llm.ask(f"Plan: {topic}")
    parts = [part.strip() for part in plan.split(";")]
    found = await asyncio.gather(*(ctx.call(study, part) for part in parts))
    return await llm.ask(f"Combine: {'; '.join(found)}")


def script(request) -> str:
    task, _, text = request.prompt.partition(": ")
    match task:
        case "Plan":
            return text.replace(",", ";")
        case "Study":
            return f"{text} are wet"
        case _:
            return f"Report: {text}."


llm = Provider(script)
app = hf.App(research, worker)
