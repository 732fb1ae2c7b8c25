"""Bodies that are no JSON, at every route of ours that takes some."""

from __future__ import annotations

import pytest

from tests.ingress.fake import Client

DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize("value", [b"", b'"\xff"', DEEP], ids=["cut", "not UTF-8", "deep"])
@pytest.mark.parametrize(
    ("method", "path", "code", "member"),
    [
        ("POST", "/deployments", "HF1280", "uri"),
        ("PATCH", "/services/Cart", "HF1290", "journal_retention"),
        ("POST", "/services/Cart/state", "HF1271", "object_key"),
        ("PATCH", "/holdfast/v1/state/Cart/k", "HF1271", "version"),
        ("POST", "/holdfast/v1/invocations/batch/kill", "HF1256", "service"),
        ("POST", "/internal/invocations_batch_operations/kill", "HF1256", "invocation_ids"),
        ("POST", "/query", "HF1408", "query"),
    ],
)
async def test_a_body_that_cannot_be_read_is_the_clients_mistake(
    client: Client, method: str, path: str, code: str, member: str, value: bytes
) -> None:
    seen = await client.request(method, path, b'{"%s": %s}' % (member.encode(), value))
    assert (seen.status, seen.json["error_code"]) == (400, code), seen.json
    assert len(seen.body) < 1_000
