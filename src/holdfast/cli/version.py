"""`holdfast version`."""

from __future__ import annotations

from importlib import metadata

import click

from holdfast.cli.option import as_json
from holdfast.cli.output import print_json


@click.command()
@as_json
def version(is_json: bool) -> None:
    """Print the version.

    \b
      holdfast version
    """
    found = metadata.version("holdfast")
    if is_json:
        print_json({"version": found})
    else:
        click.echo(found)
