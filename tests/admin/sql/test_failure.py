from __future__ import annotations

import pytest

from holdfast.admin.sql.failure import error_code, phrase
from holdfast.engine.row import AttemptFailure


@pytest.mark.parametrize(
    ("code", "message", "shown"),
    [
        (500, "no stock", "RT0007"),
        (570, "the program has changed", "RT0016"),
        (571, "a malformed message", "RT0012"),
        (500, "the connection to the endpoint broke: reset [HF1343]", "RT0010"),
        (500, "the endpoint cannot be reached: refused [HF1340]", "RT0010"),
        (404, "the endpoint answered POST /invoke/S/run with 404 [HF1341]", "RT0012"),
        (503, "the endpoint is overloaded: POST /invoke/S/run → 503 [HF1345]", "RT0023"),
        (415, "the endpoint does not speak version 6 [HF1346]", "RT0015"),
        (413, "the journal is too large [HF1347]", "RT0019"),
        (500, "a handler quotes [HF1343] and goes on", "RT0007"),
        (500, "[HF9999]", "RT0007"),
    ],
)
def test_error_codes_are_those_of_restate(code: int, message: str, shown: str) -> None:
    assert error_code(AttemptFailure(code, message, 0)) == shown


def test_a_phrase_has_code_name_message_and_stack_trace() -> None:
    assert phrase(AttemptFailure(500, "boom", 0, "line 1")) == "[500 Internal] boom\nline 1"
    assert phrase(AttemptFailure(404, "gone", 0)) == "[404 Not Found] gone"
    assert phrase(AttemptFailure(9999, "odd", 0)) == "[9999] odd"
