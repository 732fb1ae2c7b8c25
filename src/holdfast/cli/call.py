"""`holdfast call`, `send` and `attach`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from urllib.parse import quote, urlencode

import click

from holdfast.cli.client import Answer, Server
from holdfast.cli.option import as_json, ingress_url, token
from holdfast.cli.output import note, print_json
from holdfast.cli.problem import usage_error

_key = click.option("--key", metavar="KEY", help="Object or workflow key, if not in TARGET.")
_idempotency_key = click.option(
    "--idempotency-key", metavar="KEY", help="Equal requests with one key are one invocation."
)
_content_type = click.option(
    "--content-type",
    metavar="TYPE",
    default="application/json",
    show_default=True,
    help="Of the argument; it is sent as it is unless it is JSON, which is checked first.",
)
_timeout = click.option(
    "--timeout", "timeout_s", type=float, metavar="SECONDS", help="How long to wait. [for ever]"
)
_BODY = "JSON is the argument itself, @FILE to read it from a file, or - for standard input."


@click.command(epilog=_BODY)
@click.argument("target")
@click.argument("body", metavar="[JSON]", required=False)
@_key
@_content_type
@_idempotency_key
@_timeout
@ingress_url
@token
@as_json
def call(
    target: str,
    body: str | None,
    key: str | None,
    content_type: str,
    idempotency_key: str | None,
    timeout_s: float | None,
    ingress: str,
    token: str | None,
    is_json: bool,
) -> None:
    """Call a handler and print its answer.

    TARGET is Service/handler or, for objects and workflows, Service/key/handler. If this command
    stops waiting, the invocation goes on.

    \b
      holdfast call Greeter/greet '"Ada"'
      holdfast call Chat/alice/say @message.json
    """
    path = target_path(target, key)
    content = read_body(body, content_type)
    server = Server(ingress, "--ingress", token)
    try:
        answer = server.ask(
            "POST",
            path,
            body=content,
            headers=_headers(content, content_type, idempotency_key),
            timeout_s=timeout_s,
        )
    except KeyboardInterrupt:
        service = target.split("/", 1)[0]
        note(f"The invocation goes on. Find it with: holdfast invocations ls --service {service}")
        raise
    _print_answer(answer, is_json)


@click.command(epilog=_BODY)
@click.argument("target")
@click.argument("body", metavar="[JSON]", required=False)
@click.option("--delay", metavar="DURATION", help="Start later: 5m, 1h 30m, 1500ms, PT1.5S.")
@_key
@_content_type
@_idempotency_key
@ingress_url
@token
@as_json
def send(
    target: str,
    body: str | None,
    delay: str | None,
    key: str | None,
    content_type: str,
    idempotency_key: str | None,
    ingress: str,
    token: str | None,
    is_json: bool,
) -> None:
    """Call a handler without waiting, and print the id of the invocation.

    TARGET is Service/handler or, for objects and workflows, Service/key/handler.

    \b
      holdfast send Mailer/remind '{"to": "ada"}' --delay 5m
    """
    path = target_path(target, key) + "/send"
    if delay is not None:
        path += "?" + urlencode({"delay": delay})
    content = read_body(body, content_type)
    server = Server(ingress, "--ingress", token)
    answer = server.ask(
        "POST", path, body=content, headers=_headers(content, content_type, idempotency_key)
    )
    fields = answer.json()
    if is_json:
        print_json(
            {
                "invocation_id": fields.get("invocationId"),
                "status": fields.get("status"),
                "execution_time": fields.get("executionTime"),
            }
        )
    else:
        click.echo(fields.get("invocationId"))
    if fields.get("status") == "PreviouslyAccepted":
        note("An earlier request made this invocation.")


@click.command()
@click.argument("invocation_id", metavar="ID")
@_timeout
@ingress_url
@token
@as_json
def attach(
    invocation_id: str, timeout_s: float | None, ingress: str, token: str | None, is_json: bool
) -> None:
    """Wait for an invocation and print its answer.

    \b
      holdfast attach inv_1...
    """
    server = Server(ingress, "--ingress", token)
    try:
        answer = server.get(
            f"/restate/invocation/{quote(invocation_id, safe='')}/attach", timeout_s=timeout_s
        )
    except KeyboardInterrupt:
        note(f"The invocation goes on. Wait again with: holdfast attach {invocation_id}")
        raise
    _print_answer(answer, is_json)


def target_path(target: str, key: str | None) -> str:
    """Return the path of a target at the ingress.

    Raises:
        CommandError: HF1216, not a target.
    """
    service, separator, rest = target.partition("/")
    # A key may hold slashes: it is all that is between the first and the last one.
    inner_key, inner_separator, handler = rest.rpartition("/")
    if inner_separator and key is not None:
        problem = f"the key is given twice: {inner_key!r} in the target, {key!r} with --key"
    elif not separator or not service or not handler:
        problem = "expected Service/handler or Service/key/handler"
    else:
        parts = [service, handler]
        if inner_separator:
            parts.insert(1, inner_key)
        elif key is not None:
            parts.insert(1, key)
        return "".join("/" + quote(part, safe="") for part in parts)
    raise usage_error(
        f"{target!r} is not a target",
        code="HF1216",
        cause=problem,
        hint="holdfast services ls lists what can be called.",
    )


def read_body(text: str | None, content_type: str) -> bytes | None:
    """Return the argument of a call, checked when it is to be JSON.

    Raises:
        CommandError: HF1221 it is not JSON; HF1222 the file cannot be read.
    """
    if text is None:
        return None
    try:
        if text == "-":
            content = sys.stdin.buffer.read()
        elif text.startswith("@"):
            content = Path(text[1:]).read_bytes()
        else:
            content = text.encode()
    except OSError as error:
        raise usage_error(
            f"{text[1:]} cannot be read", code="HF1222", cause=error.strerror or str(error)
        ) from error
    if "json" not in content_type:
        return content
    try:
        json.loads(content)
    except (ValueError, RecursionError) as error:
        raise usage_error(
            "The argument is not JSON",
            code="HF1221",
            cause=str(error),
            hint="""Quote it for the shell, and text once more for JSON: '"Ada"'""",
        ) from error
    return content


def _headers(
    content: bytes | None, content_type: str, idempotency_key: str | None
) -> dict[str, str]:
    headers: dict[str, str] = {}
    if content is not None:
        headers["content-type"] = content_type
    if idempotency_key is not None:
        headers["idempotency-key"] = idempotency_key
    return headers


def _print_answer(answer: Answer, is_json: bool) -> None:
    if is_json:
        try:
            result: object = json.loads(answer.body) if answer.body else None
        except ValueError:
            result = answer.body.decode(errors="replace")
        print_json({"invocation_id": answer.headers.get("x-restate-id"), "result": result})
        return
    if answer.body:
        is_line = answer.body.endswith(b"\n") or not _is_text(answer)
        click.echo(answer.body, nl=not is_line)


def _is_text(answer: Answer) -> bool:
    kind = answer.headers.get("content-type", "")
    return kind.startswith("text/") or "json" in kind or sys.stdout.isatty()
