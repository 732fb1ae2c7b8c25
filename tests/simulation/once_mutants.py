"""Known bugs of steps that must not run twice; see `mutants`."""

from __future__ import annotations

from typing import Any

from holdfast.sdk.guard import Guards
from holdfast.sdk.step_try import Standing, StepTries

from .mutants import Patch, mutant


@mutant
def body_before_its_begin() -> list[Patch]:
    """A body that must not run twice does not wait until its beginning is recorded."""

    def hasty(self: Guards, step: Any, future: Any, number: int) -> None:
        self._bodies.launch(step)

    return [(Guards, "_await_begin", hasty)]


@mutant
def try_passed_on_to_all() -> list[Patch]:
    """A try that was passed on to the next attempt is taken by later ones, too."""
    standing = StepTries.standing

    def generous(self: StepTries, key: str) -> Standing:
        step = self._steps.get(key)
        is_passed = step is not None and step.end is not None and step.end.reason == "passed on"
        return Standing.READY if is_passed else standing(self, key)

    return [(StepTries, "standing", generous)]


@mutant
def begin_without_its_record_is_new() -> list[Patch]:
    """What has begun and has no result is taken for what has not begun."""
    standing = StepTries.standing

    def forgetful(self: StepTries, key: str) -> Standing:
        found = standing(self, key)
        return Standing.NEW if found is Standing.UNKNOWN else found

    return [(StepTries, "standing", forgetful)]
