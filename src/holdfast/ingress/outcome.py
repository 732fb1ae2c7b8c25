"""Responses that tell what became of an invocation."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import msgspec

from holdfast.domain.message import Failure
from holdfast.domain.target import HandlerManifest
from holdfast.ingress.problem import failure_response
from holdfast.server.handle import Accepted, Finished
from holdfast.web.asgi import JSON_HEADER, Headers, Response
from holdfast.web.instant import iso_time

_encode = msgspec.json.Encoder().encode

_MEDIA_TYPE = re.compile(r"[!-~]+/[!-~]+(?:\s*;[ -~]*)?")


class OutputType(NamedTuple):
    """Which content type a result has."""

    content_type: str = "application/json"
    """Empty for none."""
    is_for_empty: bool = False
    """Whether an empty result has it, too."""


def output_type_of(manifest: HandlerManifest) -> OutputType:
    """Return which content type the results of a handler have."""
    return OutputType(manifest.output_content_type, manifest.is_empty_output_typed)


def finished_response(finished: Finished, output_type: OutputType) -> Response:
    """Return the response for an invocation that has its outcome.

    Args:
        finished: The invocation.
        output_type: Of its handler.
    """
    outcome = finished.outcome
    if isinstance(outcome, Failure):
        return _with_expiry(failure_response(finished.invocation_id, outcome), finished)
    headers: Headers = [(b"x-restate-id", finished.invocation_id.encode())]
    # A handler without a result has no content, and then there is mostly no type to name.
    if output_type.content_type and (outcome.content or output_type.is_for_empty):
        headers.append(_content_type(output_type.content_type))
    return _with_expiry(Response(200, headers, outcome.content), finished)


def accepted_response(accepted: Accepted) -> Response:
    """Return the response for a send."""
    answer = {"invocationId": accepted.invocation_id}
    if accepted.execute_at_ms:
        answer["executionTime"] = iso_time(accepted.execute_at_ms)
    answer["status"] = "Accepted" if accepted.is_new else "PreviouslyAccepted"
    headers: Headers = [JSON_HEADER, (b"x-restate-id", accepted.invocation_id.encode())]
    return Response(202, headers, _encode(answer))


def _with_expiry(response: Response, finished: Finished) -> Response:
    if finished.expires_at_ms:
        expires = iso_time(finished.expires_at_ms).encode()
        response.headers.append((b"idempotency-expires", expires))
    return response


@lru_cache(maxsize=512)
def _content_type(text: str) -> tuple[bytes, bytes]:
    # Deployments choose it. A line break in it must not become a header of its own.
    if _MEDIA_TYPE.fullmatch(text) is None:
        text = "application/octet-stream"
    return (b"content-type", text.encode())
