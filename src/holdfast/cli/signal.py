"""`holdfast signal`."""

from __future__ import annotations

from urllib.parse import quote

import click

from holdfast.cli.call import read_body
from holdfast.cli.client import Server
from holdfast.cli.option import as_json, ingress_url, token
from holdfast.cli.output import note, print_json
from holdfast.cli.problem import usage_error

_JSON = "application/json"


@click.command(
    epilog="JSON is the value itself, @FILE to read it from a file, or - for standard input."
)
@click.argument("invocation_id", metavar="ID")
@click.argument("name")
@click.argument("body", metavar="[JSON]", required=False)
@click.option("--reject", "reason", metavar="REASON", help="Send a failure instead of a value.")
@ingress_url
@token
@as_json
def signal(
    invocation_id: str,
    name: str,
    body: str | None,
    reason: str | None,
    ingress: str,
    token: str | None,
    is_json: bool,
) -> None:
    """Send a named signal to an invocation.

    The handler takes it with ctx.signal(NAME), now or when it comes to that.

    \b
      holdfast signal inv_1... approval '{"by": "Ada"}'
      holdfast signal inv_1... approval --reject 'no budget'
    """
    target = quote(invocation_id, safe="")
    path = f"/holdfast/v1/invocations/{target}/signals/{quote(name, safe='')}"
    content: bytes | None
    if reason is not None:
        if body is not None:
            raise usage_error("A signal has a value or a reason to reject, not both", code="HF0525")
        path, content, kind = f"{path}/reject", reason.encode(), "text/plain"
    else:
        content, kind = read_body(body, _JSON), _JSON
    headers = {} if content is None else {"content-type": kind}
    Server(ingress, "--ingress", token).ask("POST", path, body=content, headers=headers)
    if is_json:
        print_json({"invocation_id": invocation_id, "signal": name})
    else:
        note(f"Sent {name} to {invocation_id}.")
