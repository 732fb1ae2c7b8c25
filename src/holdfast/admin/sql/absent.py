"""Tables of what there is not here: virtual queues. Restate's tools look into them."""

from __future__ import annotations

from typing import Any

from holdfast.admin.sql.column import AnyTable, Column, Kind, Table, no_rows

MEANING = "Always empty: there are no virtual queues."

_KINDS = {
    "text": Kind.TEXT,
    "bool": Kind.BOOL,
    "u32": Kind.U32,
    "u64": Kind.U64,
    "time": Kind.TIME,
    "duration": Kind.DURATION,
}
_ENTRY = """
    text stage status; bool has_lock; time {time}; u64 sequence_number; {id}text entry_kind;
    time created_at transitioned_at;
    u32 num_attempts num_errors num_pauses num_suspensions num_yields;
    time first_attempt_at latest_attempt_at first_runnable_at; text deployment
"""
_BLOCKERS = (
    "invoker_concurrency",
    "throttling_rules",
    "invoker_throttling",
    "invoker_memory",
    "concurrency_rules",
    "lock",
    "deployment_concurrency",
)
_COLUMNS = {
    "sys_locks": "u64 partition_key; text scope lock_name; time acquired_at; text acquired_by",
    "sys_rules": """
        text pattern; u32 concurrency; text description; bool disabled; u32 version;
        time last_modified""",
    "sys_scheduler": """
        u64 partition_key; text id; u64 num_inbox; text status head_entry_id; time scheduled_at;
        text blocked_on blocked_on_json;
        duration """
    + " ".join(f"{it}_block_duration" for it in _BLOCKERS),
    "sys_user_limits": """
        u64 partition_key; text scope l1 l2 level; u32 usage concurrency_limit; text rule_pattern;
        u32 available; u64 num_waiters""",
    "sys_vqueues": "u64 partition_key; text id;"
    + _ENTRY.format(time="run_at", id="text entry_id; "),
    "sys_vqueue_meta": """
        u64 partition_key; text id; bool is_active queue_is_paused;
        text service_name scope limit_key lock_name;
        time created_at last_enqueued_at last_start_at last_attempt_at last_finish_at;
        duration avg_queue_duration avg_inbox_duration avg_run_duration avg_suspension_duration
        avg_end_to_end_duration avg_blocked_on_concurrency_rules
        avg_blocked_on_invoker_concurrency avg_blocked_on_invoker_throttling avg_blocked_on_lock;
        u64 num_inbox num_running num_suspended num_paused num_finished""",
    "sys_vqueue_entry_status": "u64 partition_key; text entry_id vqueue_id;"
    + _ENTRY.format(time="next_at", id="")
    + """; u64 needed_memory; u32 retry_attempts retry_count_since_last_stored_command;
        duration """
    + " ".join(
        f"{when}_blocked_on_{it}" for when in ("latest_attempt", "total") for it in _BLOCKERS
    ),
}
"""By table: kinds, each with the columns that follow it."""


def _table(name: str, text: str) -> AnyTable:
    columns: list[Column[Any]] = []
    for part in text.split(";"):
        kind, *names = part.split()
        columns += [Column(it, _KINDS[kind], "always null", lambda _: None) for it in names]
    return Table(name, MEANING, tuple(columns), no_rows, {})


ABSENT = tuple(_table(name, text) for name, text in _COLUMNS.items())
