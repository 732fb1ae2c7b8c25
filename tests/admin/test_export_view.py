from __future__ import annotations

from typing import Any

import pytest

from holdfast.admin.export_view import view_recording
from holdfast.domain.message import Call, Completion, Input, Run, Value
from holdfast.domain.recording import decode_recording
from holdfast.engine.row import JournalRow, Status
from tests.ingress.fake import INVOCATION_ID, NOW_MS, Client, FakeHandle

from .test_app import row_of

SECRET = (("Authorization", "Bearer x"), ("x-trace", "7"))
JOURNAL = [
    JournalRow(INVOCATION_ID, 0, NOW_MS, Input(Value(b'"\xc3\xa9"'), SECRET)),
    JournalRow(INVOCATION_ID, 1, NOW_MS, Run(1, "a", "run:a#0", "a.py:1 h")),
    JournalRow(INVOCATION_ID, 2, NOW_MS, Completion(0x8011, 1, Value(b"\x00\xff"), NOW_MS)),
    JournalRow(
        INVOCATION_ID, 3, NOW_MS, Call("S", "h", b"", None, SECRET, None, 2, 3, "", "call:S.h#0")
    ),
]


async def test_a_run_is_exported_exactly_but_for_secrets(
    client: Client, handle: FakeHandle
) -> None:
    handle.rows[INVOCATION_ID] = row_of(status=Status.BACKING_OFF, attempt=3)
    handle.journals[INVOCATION_ID] = JOURNAL
    seen = await client.get(f"/holdfast/v1/invocations/{INVOCATION_ID}/export")
    assert seen.status == 200
    assert seen.headers["content-type"] == "application/json"
    recording = decode_recording(seen.body)
    assert recording.status == "backing-off"
    assert recording.target == "Cart/add"
    assert recording.start.key == "k/1"
    assert recording.start.created_at_ms == NOW_MS
    assert recording.start.known_entries == 4
    assert recording.start.is_state_partial
    assert recording.entries[1:3] == tuple(each.entry for each in JOURNAL[1:3])
    for index in (0, 3):
        entry: Any = recording.entries[index]
        assert entry.headers == (("Authorization", "(hidden)"), ("x-trace", "7"))


def test_a_test_keeps_its_own_secrets() -> None:
    recording = view_recording(row_of(), JOURNAL, has_secrets=True)
    assert recording.entries == tuple(each.entry for each in JOURNAL)


@pytest.mark.parametrize(
    ("invocation_id", "status"), [("x", 400), (INVOCATION_ID, 404)], ids=["bad", "unknown"]
)
async def test_what_cannot_be_exported(client: Client, invocation_id: str, status: int) -> None:
    seen = await client.get(f"/holdfast/v1/invocations/{invocation_id}/export")
    assert seen.status == status
