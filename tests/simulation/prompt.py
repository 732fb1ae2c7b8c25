"""Steps that were model calls: conversations that begin alike, and what is kept of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import holdfast as hf
from holdfast.engine.decision import Batch
from holdfast.engine.row import InvocationRow, Status, Table
from holdfast.storage.memory import MemoryStore
from tests.engine.prompt_check import problems

PROMPT_TABLES = (Table.DETAIL, Table.NODE, Table.BLOB, Table.CONTENT)
_TABLES = (Table.INVOCATION, *PROMPT_TABLES)


def describe(said: list[str], name: str) -> None:
    """Say in the body of a step that it was a model call.

    Args:
        said: In this invocation so far; the prompt is all of it.
        name: What is said now.
    """
    # Steps of one kind have different names in each invocation, and one beginning.
    text = name.rstrip("0123456789")
    messages = ["system", *said]
    hf.describe_step(
        hf.ModelCall(provider="sim", request_model="m", messages=messages, answer=text)
    )
    said.append(text)


class PromptRules:
    """Nothing of a prompt is missing while a detail needs it, and nothing stays behind."""

    def __init__(self, fail: Callable[[str, str], NoReturn], partition_count: int) -> None:
        self._fail = fail
        self._rows: list[dict[Any, Any]] = [{} for _ in range(partition_count)]
        self.kept_count = 0
        """Details that were written."""

    def on_commit(self, batch: Batch) -> None:
        """A batch is about to be written."""
        rows = self._rows[batch.partition]
        is_touched = False
        for key, row in batch.rows.items():
            if key[0] not in _TABLES:
                continue
            known = rows.get(key)
            if key[0] is not Table.INVOCATION:
                is_touched = True
                self.kept_count += key[0] is Table.DETAIL and row is not None
            elif row is None or (isinstance(known, InvocationRow) and known.detail_count):
                is_touched |= row is None or _has_ended(known, row)
            if row is None:
                rows.pop(key, None)
            else:
                rows[key] = row
        if is_touched and (found := problems(rows)):
            self._fail("S50", "; ".join(found))

    def check_rest(self, store: MemoryStore) -> None:
        """What is stored in the end is what was written."""
        for number, rows in enumerate(self._rows):
            if found := problems(rows):
                self._fail("S50", "; ".join(found))
            stored = store._partitions[number].rows
            for table in PROMPT_TABLES:
                known = {key: row for key, row in rows.items() if key[0] is table}
                if known != {key: row for key, row in stored.items() if key[0] is table}:
                    self._fail("S50", f"what is stored of {table.name} is not what was written")


def _has_ended(before: Any, after: Any) -> bool:
    return before.detail_count != after.detail_count or (
        after.status is Status.COMPLETED and before.status is not Status.COMPLETED
    )
