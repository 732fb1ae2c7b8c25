"""What tests of some columns say about stored ones."""

from __future__ import annotations

from holdfast.admin.sql.column import Constant, Narrow, Narrowed, Test, narrow_same
from holdfast.domain.ids import IdError, parse_invocation_id
from holdfast.engine.row import Status
from holdfast.storage.scan import Comparison, Condition
from holdfast.web.problem import Refusal, shown


def narrow_id(test: Test, values: tuple[Constant, ...]) -> Narrowed:
    """Narrow by an invocation id.

    Raises:
        Refusal: HF1403, there is no such id, and with `=` that is a mistake.
    """
    if test is Test.IN:
        for value in values:
            try:
                parse_invocation_id(str(value))
            except IdError:
                raise Refusal(
                    # As Restate's server, whose tools expect it so.
                    500,
                    "HF1403",
                    f"{shown(str(value))} is not an invocation id: expected inv_1 and 33 more"
                    " characters.",
                    hint="Copy the whole id, as it was printed.",
                ) from None
    return _narrow_id(test, values)


_narrow_id = narrow_same("id")


def narrow_target(test: Test, values: tuple[Constant, ...]) -> Narrowed:
    """Narrow by what begins with a service and a slash."""
    heads = [str(value).partition("/") for value in values]
    if test not in (Test.IN, Test.PREFIX) or not all(slash for _, slash, _ in heads):
        return Narrowed()
    services = tuple(dict.fromkeys(service for service, _, _ in heads))
    return Narrowed((Condition("service", Comparison.IN, services),))


def narrow_status(names: dict[Status, frozenset[str]]) -> Narrow:
    """Return how tests of a shown status narrow the stored one, from what each may be shown as."""

    def narrow(test: Test, values: tuple[Constant, ...]) -> Narrowed:
        if test not in (Test.IN, Test.NOT_IN):
            return Narrowed()
        named = frozenset(str(value) for value in values)
        passing = {
            status: possible & named if test is Test.IN else possible - named
            for status, possible in names.items()
        }
        kept = tuple(sorted(status for status, possible in passing.items() if possible))
        is_exact = all(passing[status] == names[status] for status in kept)
        return Narrowed((Condition("status", Comparison.IN, kept),), is_exact)

    return narrow
