"""An agent of the OpenAI Agents SDK with one slow tool."""

from __future__ import annotations

import asyncio
import os
import time

from agents import Agent, OpenAIProvider, RunConfig, function_tool
from ledger import note

import holdfast as hf
import holdfast.ai.openai_agents as durable_agents


@function_tool
async def work(number: int, seconds: float) -> str:
    """Take some time."""
    note(f"begin {number} {time.monotonic()}")
    await asyncio.sleep(seconds)
    note(f"end {number} {time.monotonic()}")
    return f"done {number}"


agent = Agent(name="Worker", instructions="Work.", tools=[work])
service = hf.Service("Tools")


@service.handler
async def run(ctx: hf.Context, prompt: str) -> str:
    provider = OpenAIProvider(base_url=os.environ["MODEL_URL"], api_key="scripted")
    config = RunConfig(model="ten-tools", model_provider=provider)
    result = await durable_agents.run(agent, prompt, run_config=config)
    return str(result.final_output)


app = hf.App(service)
