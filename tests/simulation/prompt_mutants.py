"""Known bugs of what is kept of model calls; see `mutants`."""

from __future__ import annotations

from typing import Any

from holdfast.engine import detail, lifecycle, on_handler_sent, on_operation

from .mutants import Patch, mutant


@mutant
def shared_prompt_not_counted() -> list[Patch]:
    """A call whose prompt goes on from another's does not say that it needs it."""
    return [(detail, "_use_node", lambda draft, node: None)]


@mutant
def answer_not_counted() -> list[Patch]:
    """A message that is known is used without saying so."""
    use = detail._use_blob

    def careless(draft: Any, blob: bytes, data: bytes | None) -> None:
        if draft.fact((detail.Table.BLOB, blob)) is None:
            use(draft, blob, data)

    return [(detail, "_use_blob", careless)]


@mutant
def details_outlive_their_journal() -> list[Patch]:
    """What steps were is not forgotten with their journal."""
    return [
        (lifecycle, "forget_details", lambda draft, row: None),
        (on_operation, "forget_details", lambda draft, row: None),
    ]


@mutant
def restart_borrows_prompts() -> list[Patch]:
    """A restart takes details over, and does not count that it uses them."""
    return [
        (on_operation, "copy_details", _copy_without_counting),
    ]


def _copy_without_counting(draft: Any, source: Any, row: Any, entries: Any) -> None:
    before = {key: value for key, value in draft.rows.items()}
    detail.copy_details(draft, source, row, entries)
    for key in [k for k in draft.rows if k[0] in (detail.Table.NODE, detail.Table.BLOB)]:
        if key in before:
            draft.rows[key] = before[key]
        else:
            del draft.rows[key]


@mutant
def late_detail_kept() -> list[Patch]:
    """A result that is proposed twice leaves its prompt twice, under other names."""
    keep = detail.keep_detail

    def twice(draft: Any, row: Any, completion_id: int, said: Any, **options: Any) -> None:
        keep(draft, row, completion_id, said, **options)
        count = row.detail_count
        keep(draft, row, completion_id + 10_000, said, **options)
        row.detail_count = count

    return [(on_handler_sent, "keep_detail", twice)]
