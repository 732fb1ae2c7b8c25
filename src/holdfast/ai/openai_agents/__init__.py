"""Makes agents of the OpenAI Agents SDK durable, without changing them.

Call `run` inside a Holdfast handler, where you would call `Runner.run`:

    import holdfast as hf
    import holdfast.ai.openai_agents as durable_agents

    @service.handler
    async def run(ctx: hf.Context, prompt: Prompt) -> str:
        result = await durable_agents.run(agent, prompt.prompt)
        return result.final_output

What is durable then:

- **Model calls.** Each call is one step, recorded with its whole answer. The SDK's own retries and
  those of the provider's client are off; `model_retry` decides. Requests that the provider refuses
  as wrong (400, 404, 413, 422) end the invocation instead of being retried.
- **Function tools.** The body of a tool is one step: it runs once, its result is recorded. A tool
  that needs the durable context itself (steps, timers, awakeables) is marked with `scoped` and runs
  outside a step, with its own journal under a stable key.
- **Agents as tools, handoffs and guardrails that run agents.** The same rules hold below them.

Parallel tool calls stay parallel. A tool's exceptions go to the model as without Holdfast, by the
tool's `failure_error_function`; with `failure_error_function=None` the step is retried instead,
and with `tool_retry` it is first retried and then told to the model.

Everything else around a run is ordinary code of the handler and runs again at replay: hooks,
dynamic instructions, filters, guardrail functions, `on_handoff` callbacks. It must not have side
effects and must not depend on time or chance. Changes that a tool makes to the run's `context`
object are not recorded; a warning says when that happens.

What cannot be made durable is refused with a `UsageError`: streaming, sessions, resuming from a
`RunState` (so `needs_approval`), local MCP servers, sandboxes, and tools that act on this machine
(shell, computer, patches). Tracing is off unless the `RunConfig` configures it, because a replay
would send the same spans again.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("agents") is None:
    raise ImportError(
        "holdfast.ai.openai_agents needs the OpenAI Agents SDK: "
        'pip install "holdfast[openai-agents]"'
    )

from ._run import run, run_streamed
from ._tools import scoped

__all__ = ["run", "run_streamed", "scoped"]
