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
  those of the provider's client are off; `Options.model_retry` decides. Requests that the provider
  refuses as wrong (400, 404, 413, 422) end the invocation instead of being retried.
- **Function tools and tools of MCP servers.** The call of a tool is one step under its call id: it
  runs once, its result is recorded, parallel calls stay parallel. A tool that needs the durable
  context itself (steps, timers, approvals) is marked with `scoped`, or has `mode="scoped"` in
  `Options`. What an MCP server offers is recorded, too.
- **Agents as tools, handoffs and guardrails that run agents.** The same rules hold below them.
- **Streams.** `run_streamed` is in place of `Runner.run_streamed`. The text of an answer goes to
  the durable stream of the invocation as it comes; the handler gets the events when they are
  recorded.
- **Sessions.** `HoldfastSession` keeps a conversation in the state of a virtual object.
- **Approvals.** A tool with `needs_approval` waits for a person, in the inbox of approvals, who may
  change its arguments. A rejection is told to the model.

A tool's exception goes to the model by the tool's `failure_error_function`, after the retries of
`Options.tool_retry`; with `failure_error_function=None` it ends the run as itself.

Everything else around a run is ordinary code of the handler and runs again at replay: hooks,
dynamic instructions, filters, guardrail functions, `on_handoff` callbacks. It must not have side
effects and must not depend on time or chance. Changes that a tool makes to the run's `context`
object are not recorded; a warning says when that happens.

What cannot be made durable is refused with a `UsageError`: sessions of other kinds, resuming from a
`RunState`, sandboxes, and tools that act on this machine (shell, computer, patches). Tracing is off
unless the `RunConfig` configures it, because a replay would send the same spans again.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("agents") is None:
    raise ImportError(
        "holdfast.ai.openai_agents needs the OpenAI Agents SDK: "
        'pip install "holdfast[openai-agents]"'
    )

from ._approval import Approvals
from ._run import run, run_streamed
from ._session import HoldfastSession
from ._tools import scoped

__all__ = ["Approvals", "HoldfastSession", "run", "run_streamed", "scoped"]
