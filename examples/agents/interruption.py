"""A second message during a turn: it stops the turn, or steers it.

The thinking takes a minute. Send a message, and another one before it has ended:

    holdfast dev examples/agents/interruption.py:app
    curl localhost:8080/Hasty/ada/send/send --json '"Plan a trip to Rome."'
    curl localhost:8080/Hasty/ada/send --json '"Stop. What is the time?"'
    curl localhost:8080/Patient/ada/send/send --json '"Plan a trip to Rome."'
    curl localhost:8080/Patient/ada/send/send --json '"And to Oslo."'
    curl -X POST localhost:8080/Patient/ada/history
"""

from datetime import timedelta

from provider import Provider

import holdfast as hf
from holdfast.ai.session import Chat, Session, mailbox


async def think(session: Session) -> None:
    # Stands in for long work: tools, searches, other agents. All of it can be interrupted.
    await session.ctx.sleep(timedelta(minutes=1))


async def hasty(session: Session, text: str) -> str:
    """Answer. A message that comes now ends this turn; the next one knows what was said."""
    if text.startswith("Plan"):
        await think(session)
    return await llm.ask(session.prompt)


async def patient(session: Session, text: str) -> str:
    """Answer. What is said meanwhile is taken in before the model is asked."""
    await think(session)
    return await llm.ask(" ".join([text, *await session.steering()]))


llm = Provider()
app = hf.App(
    Chat("Hasty", hasty, on_message="interrupt"),
    Chat("Patient", patient, on_message="steer"),
    mailbox,
)
