"""The sample agents: ordinary agents of the OpenAI Agents SDK in two durable services.

Kill the process that runs them wherever you like: no answer of the model is paid for twice, no
tool runs twice, and a claim waits for its reviewer as long as it takes.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from agents import Agent, OpenAIProvider, RunConfig, function_tool
from agents.models import get_default_model

import holdfast as hf
import holdfast.ai.openai_agents as durable_agents

from .scenarios import MODEL_NAME


@dataclass(frozen=True)
class Prompt:
    """What a user says to an agent."""

    prompt: str


def model_config() -> RunConfig:
    """Choose the model: OpenAI's when there is a key for it, else the scripted one of the demo."""
    if os.environ.get("OPENAI_API_KEY"):
        wanted = os.environ.get("HOLDFAST_MODEL") or get_default_model()
        return RunConfig(model=wanted.removeprefix("openai:"))
    url = os.environ.get("HOLDFAST_SCRIPTED_MODEL_URL")
    if not url:
        raise hf.UsageError(
            "There is no model to ask: set OPENAI_API_KEY, or run the agents with `holdfast demo`."
        )
    scripted = OpenAIProvider(base_url=url, api_key="scripted")
    return RunConfig(model=MODEL_NAME, model_provider=scripted)


# --- Weather: three model calls, tools in parallel -------------------------------------------

_SKIES = ("clear sky", "light clouds", "rain", "fog", "snow showers", "thunderstorms")


@function_tool
async def find_place(city: str) -> str:
    """Find the id of a city.

    Args:
        city: Name of the city.
    """
    return f"{city.lower().replace(' ', '-')} is the id of {city}."


@function_tool
async def get_forecast(place_id: str) -> str:
    """Get the weather forecast of a place.

    Args:
        place_id: Id from find_place.
    """
    chance = _chance(place_id)
    return f"{_name(place_id)}: {chance % 35 - 5} °C, {_SKIES[chance % len(_SKIES)]}."


@function_tool
async def get_air_quality(place_id: str) -> str:
    """Get the air quality of a place.

    Args:
        place_id: Id from find_place.
    """
    return f"Air quality index in {_name(place_id)}: {_chance(place_id) % 60 + 10}."


def _name(place_id: str) -> str:
    return place_id.replace("-", " ").title()


def _chance(place_id: str) -> int:
    """Return a number that looks random and is always the same for a place."""
    return int.from_bytes(hashlib.sha256(place_id.encode()).digest()[:4])


weather_agent = Agent(
    name="Weather",
    instructions=(
        "You report the weather. First find the id of each city with find_place, then ask for "
        "forecast and air quality of all of them at once, then answer in one short paragraph."
    ),
    tools=[find_place, get_forecast, get_air_quality],
)

weather = hf.Service("WeatherAgent")


@weather.handler
async def run(ctx: hf.Context, prompt: Prompt) -> str:
    """Answer a question about the weather."""
    result = await durable_agents.run(weather_agent, prompt.prompt, run_config=model_config())
    return str(result.final_output)


# --- Claims: an agent that waits for a person ------------------------------------------------

COVERED_UP_TO = 5000.0


@dataclass(frozen=True)
class Decision:
    """What a reviewer decides."""

    approved: bool
    reason: str = ""


@function_tool
async def check_policy(amount: float) -> str:
    """Check what the customer's policy covers.

    Args:
        amount: The claimed amount in euros.
    """
    covered = min(amount, COVERED_UP_TO)
    return f"The policy covers {covered:.2f} of {amount:.2f} euros."


@function_tool
@durable_agents.scoped
async def request_review(claim: str, amount: float) -> str:
    """Ask a person to approve the claim, and wait for the decision.

    Args:
        claim: What happened, in the customer's words.
        amount: The claimed amount in euros.
    """
    ctx = hf.current()
    review = ctx.awakeable(type=Decision)
    await ctx.run("request review", send_to_reviewers, review.id, claim, amount)
    # Nothing runs while we wait: the invocation is only some rows until somebody decides.
    decision = await review
    verdict = "approved" if decision.approved else "rejected"
    return f"{verdict} ({decision.reason})" if decision.reason else verdict


async def send_to_reviewers(awakeable_id: str, claim: str, amount: float) -> dict[str, str | float]:
    """Tell the reviewers. A real one would write a mail or a message with the id."""
    return {"awakeable_id": awakeable_id, "claim": claim, "amount": amount}


@function_tool
async def pay(amount: float) -> str:
    """Pay an approved claim.

    Args:
        amount: The amount in euros.
    """
    return f"{amount:.2f} euros are on their way."


claim_agent = Agent(
    name="Claims",
    instructions=(
        "You handle insurance claims. Check the policy, then request a review, and wait for it. "
        "Pay only what was approved, and tell the customer the outcome in one sentence."
    ),
    tools=[check_policy, request_review, pay],
)

claims = hf.Service("ClaimAgent")


@claims.handler
async def evaluate(ctx: hf.Context, prompt: Prompt) -> str:
    """Handle one insurance claim."""
    result = await durable_agents.run(claim_agent, prompt.prompt, run_config=model_config())
    return str(result.final_output)


app = hf.App(weather, claims)
