"""The command line: starts servers and workers, and asks servers over HTTP.

Data goes to standard output, everything else to standard error. Exit codes are those of
`holdfast.cli.problem.ExitCode`. Commands are imported when they are called, so that `--help` and
`version` stay quick.
"""

from __future__ import annotations


def main() -> None:
    """Run the command that the arguments of this process name."""
    from holdfast.cli.root import run

    run()
