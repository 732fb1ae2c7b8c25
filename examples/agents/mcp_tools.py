"""Tools of an MCP server. What it offers and what it answers is recorded: a replay needs no server.

holdfast dev examples/agents/mcp_tools.py:app
curl localhost:8080/Tourist/ask --json '"How is the weather in Oslo?"'
"""

import json

from mcp.server.mcpserver import MCPServer
from provider import MODEL, Provider

import holdfast as hf
from holdfast.ai import agent_scope
from holdfast.ai.mcp import mcp_tools

tourist = hf.Service("Tourist")
offer = MCPServer("weather")


@offer.tool()
async def weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"It is sunny in {city}."


@tourist.handler
async def ask(ctx: hf.Context, question: str) -> str:
    messages = [{"role": "user", "content": question}]
    # In real life a URL, or a command that starts the server.
    async with mcp_tools(offer) as server, llm.client() as client:
        tools = [described(tool) for tool in await server.list_tools()]
        with agent_scope("tourist"):
            while True:
                answer = await client.chat.completions.create(
                    model=MODEL, messages=messages, tools=tools
                )
                said = answer.choices[0].message
                if not said.tool_calls:
                    return said.content
                messages.append(said.to_dict())
                for call in said.tool_calls:
                    arguments = json.loads(call.function.arguments)
                    output = await server.text(call.function.name, arguments, call_id=call.id)
                    messages.append({"role": "tool", "tool_call_id": call.id, "content": output})


def described(tool) -> dict:
    about = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.input_schema,
    }
    return {"type": "function", "function": about}


llm = Provider()
app = hf.App(tourist)
