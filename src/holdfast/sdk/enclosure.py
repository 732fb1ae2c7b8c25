"""Branches that end with a recorded result, and are not gone through again when they have it."""

from __future__ import annotations

from holdfast.domain.message import SIGNAL_CANCEL, Completion
from holdfast.sdk.branch import Branch, place


def skip_to_result(name: str) -> bool:
    """Skip what the running branch has recorded, if the result at its end is recorded, too.

    Call it where the branch begins. Nothing is skipped where a signal by name or a cancellation is
    recorded: what the branch took of those it has to take again, or somebody else would.

    Args:
        name: Of the step that holds the result; the first of this name in the branch.

    Returns:
        Whether to go on with that step.
    """
    branch = place.get()
    if type(branch) is not Branch or branch.attempt is None:
        return False
    machine = branch.attempt.machine
    key = f"{branch.path}/run:{name}#0"
    step = machine.unclaimed_step(key)
    # Other servers do not say when things were recorded, so the clock may need each of them.
    if step is None or not machine.start.has_extensions:
        return False
    is_done = False
    for notification in machine.pending():
        if isinstance(notification, Completion):
            is_done = is_done or notification.completion_id == step.completion_id
        elif notification.index in (None, SIGNAL_CANCEL):
            return False
    if is_done:
        machine.skip(branch.path, key)
    return is_done
