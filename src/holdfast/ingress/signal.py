"""The routes for named signals: `/holdfast/v1/invocations/{id}/signals/{name}`."""

from __future__ import annotations

from holdfast.domain.message import Failure, Signal, Value
from holdfast.domain.signal_name import check_signal_name
from holdfast.engine.decision import Reply
from holdfast.ingress.body import read_body
from holdfast.ingress.head import Head
from holdfast.server.handle import ServerHandle
from holdfast.web.asgi import Receive, Response
from holdfast.web.printed_id import checked_invocation_id
from holdfast.web.problem import Refusal, method_refusal, shown


def is_signal_route(segments: list[str]) -> bool:
    """Return whether a path is one of these routes."""
    match segments:
        case ["holdfast", "v1", "invocations", _, "signals", _]:
            return True
        case ["holdfast", "v1", "invocations", _, "signals", _, "reject"]:
            return True
        case _:
            return False


async def send_signal(
    handle: ServerHandle, method: str, segments: list[str], head: Head, receive: Receive
) -> Response:
    """Send a signal: the body is the value, or the reason of a rejection, unchanged.

    Raises:
        Refusal: HF1003, HF0524, HF1004, HF1007, HF1429.
        UsageError: HF0520, no name for a signal.
    """
    if method != "POST":
        raise method_refusal(method, "POST, OPTIONS")
    invocation_id, name = checked_invocation_id(segments[3]), segments[5]
    check_signal_name(name)
    body = await read_body(receive, head.content_length, handle.body_size_bytes_max)
    is_rejection = len(segments) > 6
    result = Failure(500, body.decode(errors="replace")) if is_rejection else Value(body)
    answer = await handle.signal(invocation_id, Signal(result, name=name))
    match answer.reply:
        case Reply.NOT_FOUND:
            raise Refusal(
                404,
                "HF1004",
                f"There is no invocation {invocation_id}.",
                hint="It was never made, or its retention has passed.",
            )
        case Reply.ALREADY_COMPLETED:
            raise Refusal(
                409,
                "HF0524",
                f"Invocation {invocation_id} has completed: it takes no signals.",
                hint=f"Nobody waits for {shown(name)} any more.",
            )
        case Reply.OVERLOADED:
            raise Refusal(
                429,
                "HF1429",
                f"The server cannot take a signal for {invocation_id}: its journal is full.",
                hint="Send fewer signals to one invocation: it keeps them until it ends.",
            )
        case _:
            return Response(202, [], b"")
