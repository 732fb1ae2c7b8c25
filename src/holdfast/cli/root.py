"""The root of the command tree, and what happens when a command fails."""

from __future__ import annotations

import difflib
import importlib
import io
import os
import sys
import traceback
from collections.abc import Mapping
from typing import NamedTuple, NoReturn

import click

from holdfast.cli.problem import ExitCode, describe, exit_code_of, usage_error
from holdfast.domain.errors import HoldfastError


class Lazy(NamedTuple):
    """A command that is imported when it is called."""

    where: str
    """`module:attribute`."""
    summary: str
    """Shown in the list of commands, where importing them all would take too long."""


class LazyGroup(click.Group):
    """A group of commands that are imported when they are called."""

    def __init__(
        self,
        *,
        name: str,
        help: str,
        commands: Mapping[str, Lazy],
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(name=name, help=help, no_args_is_help=True)
        self._lazy = commands
        self._aliases = aliases or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the help text."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        lazy = self._lazy.get(self._aliases.get(cmd_name, cmd_name))
        if lazy is None:
            return None
        module, _, attribute = lazy.where.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), f"{lazy.where} is no command"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments name; otherwise name near ones."""
        name = args[0]
        known = {*self._lazy, *self._aliases}
        if name not in known and not name.startswith("-"):
            near = difflib.get_close_matches(name, sorted(known), n=3)
            hint = f"Did you mean {' or '.join(near)}?" if near else ""
            raise usage_error(
                f"{ctx.command_path} has no command {name!r}",
                code="HF1200",
                hint=hint or f"{ctx.command_path} --help lists the commands.",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.summary) for name, lazy in self._lazy.items()])


_HELP = """\
Durable execution for AI agents.

\b
  holdfast demo                        see it work, with sample agents and no key
  holdfast dev agent.py:app            your agents, reloaded when you save
  holdfast call Greeter/greet '"Ada"'  call a handler and wait for its answer

Data goes to standard output, everything else to standard error. Every option of a server has an
environment variable: --ingress is HOLDFAST_INGRESS.
"""

COMMANDS = {
    "demo": Lazy("holdfast.cli.demo:demo", "See it work: sample agents, a crash, an approval."),
    "dev": Lazy("holdfast.cli.dev:dev", "Run a server and your handlers, reloaded on save."),
    "server": Lazy("holdfast.cli.server:server", "Run a server alone."),
    "worker": Lazy("holdfast.cli.worker:worker", "Run your handlers, connected to a server."),
    "serve": Lazy("holdfast.cli.serve:serve", "Run your handlers as an HTTP endpoint."),
    "call": Lazy("holdfast.cli.call:call", "Call a handler and wait for its answer."),
    "send": Lazy("holdfast.cli.call:send", "Call a handler, now or later, without waiting."),
    "attach": Lazy("holdfast.cli.call:attach", "Wait for the answer of an invocation."),
    "signal": Lazy("holdfast.cli.signal:signal", "Send a named signal to an invocation."),
    "approvals": Lazy("holdfast.cli.approval:approvals", "List and decide what agents ask people."),
    "invocations": Lazy(
        "holdfast.cli.invocation:invocations", "List, show, pause, restart and end invocations."
    ),
    "deployments": Lazy(
        "holdfast.cli.catalog:deployments", "Register, list and remove deployments."
    ),
    "services": Lazy("holdfast.cli.catalog:services", "List, show and set up services."),
    "state": Lazy("holdfast.cli.state:state", "Show and edit the state of objects."),
    "sql": Lazy("holdfast.cli.sql:sql", "Ask the server a question in SQL."),
    "mcp": Lazy("holdfast.cli.mcp:mcp", "Offer your handlers as tools to agents, over MCP."),
    "replay-check": Lazy(
        "holdfast.cli.replay:replay_check", "Replay recorded runs against your code."
    ),
    "version": Lazy("holdfast.cli.version:version", "Print the version."),
}
ALIASES = {"inv": "invocations", "dp": "deployments", "svc": "services"}

root = LazyGroup(name="holdfast", help=_HELP, commands=COMMANDS, aliases=ALIASES)


def run(arguments: list[str] | None = None) -> NoReturn:
    """Run a command and exit with its code.

    Args:
        arguments: None for those of this process.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character is no reason to fail.
            stream.reconfigure(errors="replace")
    try:
        root.main(arguments, prog_name="holdfast", standalone_mode=False)
    except click.ClickException as error:
        _fail(_from_click(error))
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except HoldfastError as error:
        _fail(error)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has enough of it; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.OK)
    sys.exit(ExitCode.OK)


def _fail(error: HoldfastError) -> NoReturn:
    if os.environ.get("HOLDFAST_DEBUG"):
        traceback.print_exception(error)
    click.echo(describe(error), err=True)
    sys.exit(exit_code_of(error))


def _from_click(error: click.ClickException) -> HoldfastError:
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context is not None else "holdfast"
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        sys.exit(ExitCode.USAGE)
    return usage_error(
        error.format_message(), code="HF1200", hint=f"{path} --help shows what it takes."
    )
