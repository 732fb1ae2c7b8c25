"""A chain: each model call works on what the one before it said, with a check in between.

holdfast dev examples/agents/sequential.py:app
curl localhost:8080/Article/write --json '"rivers"'
"""

from provider import Provider

import holdfast as hf

article = hf.Service("Article")


@article.handler
async def write(ctx: hf.Context, topic: str) -> str:
    """Outline, draft, translate. A crash goes on behind the last answer."""
    outline = await llm.ask(f"Outline: {topic}")
    if not outline:
        raise hf.TerminalError(f"nothing to say about {topic}")
    draft = await llm.ask(f"Draft: {outline}")
    return await llm.ask(f"Translate: {draft}")


def script(request) -> str:
    task, _, text = request.prompt.partition(": ")
    return f"{task.lower()} of {text}"


llm = Provider(script)
app = hf.App(article)
