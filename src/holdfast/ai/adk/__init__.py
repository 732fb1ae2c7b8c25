"""Makes agents of Google's Agent Development Kit durable, with one plugin more.

    import holdfast as hf
    from holdfast.ai.adk import Durable, Sessions

    app = App(name="travel", root_agent=agent, plugins=[Durable()])
    runner = Runner(app=app, session_service=Sessions())

    @service.handler
    async def run(ctx: hf.Context, prompt: str) -> str:
        session = await runner.session_service.create_session(app_name="travel", user_id="ada")
        events = runner.run_async(user_id="ada", session_id=session.id, new_message=…)
        return [event async for event in events][-1].content.parts[0].text

What is durable then:

- **Model calls** of all agents that the runner reaches, sub-agents and agents as tools included.
  Each is one step, recorded with its whole answer; the client's retries are off, and
  `Options.model_retry` decides. Models that no agent calls itself, such as that of a summarizer,
  are wrapped by hand: `durable_model`.
- **Tools.** The call of a tool is one step under its call id, recorded with its result and with
  what it did to the state and to the flow of the run (`tool_context.state`, `actions`). Parallel
  calls stay parallel. A tool that needs the durable context itself gets
  `ToolOptions(mode="scoped")`.
- **Ids and times** that the kit puts into events are the same at each replay.
- **Sessions**, with `Sessions`: in the state of the object that the handler belongs to.

Callbacks and other plugins work as they do without Holdfast, and run again at replay: they must
not have side effects. Outside of a handler the agents work as without the plugin, and say so once
in the log.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("google") is None or find_spec("google.adk") is None:
    raise ImportError(
        'holdfast.ai.adk needs the Agent Development Kit: pip install "holdfast[adk]"'
    )

from ._model import durable_model
from ._plugin import Durable
from ._session import Sessions

__all__ = ["Durable", "Sessions", "durable_model"]
