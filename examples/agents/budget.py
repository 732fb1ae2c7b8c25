"""A budget: at its end the agent waits for a person who raises it.

holdfast dev examples/agents/budget.py:app
curl localhost:8080/Talker/talk/send --json '["one", "two", "three"]'
holdfast approvals ls
holdfast approvals approve $APPROVAL_ID
"""

from provider import Provider

import holdfast as hf
from holdfast.ai import Options, agent_scope
from holdfast.ai.budget import Budget, budget_keeper
from holdfast.testing.scripted_model import Turn, Usage

talker = hf.Service("Talker")
OPTIONS = Options(budgets=(Budget(tokens=1_000),))


@talker.handler
async def talk(ctx: hf.Context, subjects: list[str]) -> int:
    """Ask about each subject. Model calls in the scope count, in any framework."""
    with agent_scope("talker", OPTIONS):
        for subject in subjects:
            await llm.ask(subject)
    return len(subjects)


def expensive(request) -> Turn:
    return Turn(text="Well.", usage=Usage(input_tokens=500, output_tokens=100))


llm = Provider(expensive)
app = hf.App(talker, budget_keeper)
