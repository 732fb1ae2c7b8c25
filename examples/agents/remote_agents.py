"""Agents as services: each has its own process, deployment and language; calls are durable.

Here they share one app. In real life each is an app of its own (`holdfast worker …`), and the
others only know its name.

    holdfast dev examples/agents/remote_agents.py:app
    curl localhost:8080/Desk/ask --json '"My invoice is wrong."'
    curl localhost:8080/Desk/ask --json '"My printer is on fire."'
"""

from provider import Provider

import holdfast as hf

desk = hf.Service("Desk")
billing = hf.Service("Billing")
support = hf.Service("Support")


@billing.handler(name="ask")
async def ask_billing(ctx: hf.Context, question: str) -> str:
    return await llm.ask(f"As accountant: {question}")


@support.handler(name="ask")
async def ask_support(ctx: hf.Context, question: str) -> str:
    return await llm.ask(f"As technician: {question}")


@desk.handler
async def ask(ctx: hf.Context, question: str) -> str:
    """Let a model choose who answers, and call that agent by its name."""
    name = await llm.ask(f"Billing or Support? {question}")
    if name not in ("Billing", "Support"):
        raise hf.TerminalError(f"nobody is responsible: the model chose {name!r}")
    return await ctx.call(f"{name}/ask", question, type=str)


def script(request) -> str:
    if request.prompt.startswith("Billing or"):
        return "Billing" if "invoice" in request.prompt else "Support"
    return request.prompt


llm = Provider(script)
app = hf.App(desk, billing, support)
