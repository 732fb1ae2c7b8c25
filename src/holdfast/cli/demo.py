"""`holdfast demo`: the sample agents, a real crash, and an approval that waits."""

from __future__ import annotations

import importlib.util
import sys

import click

from holdfast.cli.log import set_up_log
from holdfast.cli.option import check_environment, server_options
from holdfast.cli.problem import usage_error
from holdfast.cli.process import run


@click.command()
@server_options
@click.option("--exit", "--once", "is_once", is_flag=True, help="End after the show.")
def demo(ingress: str, admin: str, store: str, durability: str, is_once: bool) -> None:
    """See it work: sample agents, a crash, an approval.

    Everything runs on this machine: the model is a scripted one, so no key and no network are
    needed. When a port is taken, the next free pair is used.

    \b
      holdfast demo
    """
    check_environment()
    if importlib.util.find_spec("agents") is None:
        raise usage_error(
            "The demo needs the OpenAI Agents SDK",
            code="HF1230",
            cause="its sample agents are written with it, and it is not installed",
            hint="pip install 'holdfast[openai-agents]'",
        )
    set_up_log("warning", "text")
    from holdfast.demo.run import run_demo

    sys.exit(
        run(
            run_demo(
                ingress=ingress, admin=admin, store=store, durability=durability, is_once=is_once
            )
        )
    )
