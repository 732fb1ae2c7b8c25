"""What a tool that fails does to its agent: tell the model, end the run, or stop the loop.

holdfast dev examples/agents/errors.py:app
curl localhost:8080/Weather/ask --json '"feed"'
curl localhost:8080/Weather/ask --json '"fail"'
curl localhost:8080/Weather/ask --json '"stop"'
curl localhost:8080/Weather/ask --json '"retry"'
"""

import json

from provider import MODEL, Provider

import holdfast as hf
from holdfast import ai

weather = hf.Service("Weather")
tries: list[str] = []
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": PARAMETERS}}]


async def look(city: str) -> str:
    tries.append(city)
    if city != "retry":
        # A terminal error is final. Any other one is tried again, if there is a policy.
        raise hf.TerminalError("the station is broken", code=503)
    if len(tries) % 3:
        raise ConnectionError("no connection")
    return "sunny at the third try"


@weather.handler
async def ask(ctx: hf.Context, way: str) -> str:
    on_error = "feed" if way == "retry" else way
    options = ai.Options(
        on_tool_error=on_error, tool_retry=hf.RetryPolicy(initial_interval=0.01, max_attempts=5)
    )
    try:
        with ai.agent_scope("weather", options):
            return await loop(way)
    except ai.LoopStopped as stopped:
        return f"stopped by {stopped.tool_name}: {stopped.error}"


async def loop(city: str) -> str:
    """The loop of an agent, by hand."""
    messages = [{"role": "user", "content": f"How is the weather in {city}"}]
    async with llm.client() as client:
        while True:
            answer = await client.chat.completions.create(
                model=MODEL, messages=messages, tools=TOOLS
            )
            said = answer.choices[0].message
            if not said.tool_calls:
                return said.content
            messages.append(said.to_dict())
            for call in said.tool_calls:
                arguments = json.loads(call.function.arguments)
                try:
                    output = await ai.durable_tool_call("look", call.id, look, arguments)
                except hf.TerminalError as error:  # only with "feed"
                    output = f"It failed: {error.message}"
                messages.append({"role": "tool", "tool_call_id": call.id, "content": output})


llm = Provider()
app = hf.App(weather)
