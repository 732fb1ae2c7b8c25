"""Calls and sends."""

from __future__ import annotations

from urllib.parse import parse_qsl

from holdfast.domain.target import HandlerKind
from holdfast.ingress.body import check_input, read_body
from holdfast.ingress.duration import parse_delay_ms
from holdfast.ingress.head import Head, no_scopes
from holdfast.ingress.outcome import accepted_response, finished_response, output_type_of
from holdfast.ingress.path import Found
from holdfast.ingress.wait import wait_for_client
from holdfast.server.handle import Request, ServerHandle
from holdfast.web.asgi import Receive, Response
from holdfast.web.problem import Refusal


async def invoke(handle: ServerHandle, found: Found, head: Head, receive: Receive) -> Response:
    """Call a handler and wait for its outcome, or send to it and wait until that is durable.

    Raises:
        ClientGone: The client left; a call that had begun goes on.
        HoldfastError: The request is refused, or the server cannot take it now.
    """
    request = await read_request(handle, found, head, receive)
    if found.is_send:
        return accepted_response(await handle.send(request))
    finished = await wait_for_client(receive, handle.call(request))
    return finished_response(finished, output_type_of(found.row.manifest))


async def read_request(handle: ServerHandle, found: Found, head: Head, receive: Receive) -> Request:
    """Read what a handler is asked.

    Raises:
        HoldfastError: The request is refused.
    """
    target, row, is_send = found
    manifest = row.manifest
    if head.idempotency_key is not None and manifest.kind is HandlerKind.WORKFLOW:
        raise run_takes_no_idempotency_key(target.service, target.handler)
    delay_ms = _delay_ms(head.query, is_send) if head.query else 0
    body = await read_body(receive, head.content_length, handle.body_size_bytes_max)
    check_input(manifest, head.content_type, head.content_encoding, body)
    return Request(
        target,
        row,
        body,
        tuple(head.visible),
        head.idempotency_key,
        handle.now_ms() + delay_ms if delay_ms else 0,
        head.retry,
    )


def run_takes_no_idempotency_key(service: str, handler: str) -> Refusal:
    """Return the refusal of an idempotency key on the run handler of a workflow."""
    return Refusal(
        400,
        "HF1041",
        f"{service}/{handler} runs once per workflow key, so it takes no idempotency key.",
        hint="Leave the idempotency key out and use the workflow key for the same purpose.",
    )


def _delay_ms(query: bytes, is_send: bool) -> int:
    fields = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    delays = [value for name, value in fields if name == "delay"]
    if any(name == "limit-key" for name, _ in fields):
        raise no_scopes("Limit keys")
    if not delays:
        return 0
    if not is_send:
        raise Refusal(
            400,
            "HF1032",
            "A call cannot have a delay: it waits for the result.",
            hint="Append /send to the path.",
        )
    if len(delays) > 1:
        raise Refusal(
            400,
            "HF1030",
            f"The query has {len(delays)} delays.",
            hint="Keep one: ?delay=5m",
        )
    return parse_delay_ms(delays[0])
