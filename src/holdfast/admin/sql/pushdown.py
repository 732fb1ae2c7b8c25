"""From a query's plan to what must be read of each table.

The plan is DataFusion's, optimised over empty tables: there, conditions stand as close to the
tables as they can. What is found here only saves reading. DataFusion checks all conditions once
more on what was read, so a condition that is not understood costs time and never a wrong answer;
only a *limit* must not be believed unless all conditions below it are.

From the top of the plan to a table, `_Above` is what all rows of the table go through:

    Filter           one more condition
    Limit, Sort      a new start: conditions above them look at fewer rows
    Projection       renames columns, so conditions above it say nothing
    SubqueryAlias    nothing
    anything else    a new start without limit
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from holdfast.admin.sql.column import AnyTable, Constant, Narrowed, Test, Wanted
from holdfast.storage.scan import Comparison, Condition, Order

Plan = Any
"""`datafusion.plan.LogicalPlan`."""
Expression = Any
"""`datafusion.expr.Expr`."""

_SCAN = re.compile(r"\bTableScan: (?:\w+\.)*(\w+)")
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_NUMBER_MAX = 2**63 - 1
_WILDCARD = re.compile(r"[%_\\]")


@dataclass(frozen=True, slots=True)
class _Above:
    """What stands above a node."""

    filters: tuple[Expression, ...] = ()
    order: Order | None = None
    limit: int | None = None


def wanted_of(plan: Plan, tables: Mapping[str, AnyTable]) -> dict[str, Wanted]:
    """Return what a plan needs of each table that it reads.

    Args:
        plan: An optimised plan.
        tables: By their name in the plan.
    """
    found: dict[str, list[Wanted]] = {}
    for scan, above in _scans(plan):
        name = scan.fqn()[2]
        if name in tables:
            found.setdefault(name, []).append(_wanted(scan, above, tables[name]))
    counts = Counter(cast("list[str]", _SCAN.findall(plan.display_indent())))
    for name in counts.keys() & tables.keys():
        # Some subqueries stay inside of expressions, where walking does not lead.
        if len(found.get(name, ())) < counts[name]:
            found[name] = [Wanted(frozenset(column.name for column in tables[name].columns))]
    return {name: _merged(several) for name, several in found.items()}


def _scans(plan: Plan) -> Iterator[tuple[Any, _Above]]:
    """Iterate over the table scans of a plan."""
    waiting: list[tuple[Plan, _Above]] = [(plan, _Above())]
    while waiting:
        node, above = waiting.pop()
        try:
            variant = node.to_variant()
        except Exception:  # nodes that the bindings do not know have inputs nevertheless
            variant = None
        kind = type(variant).__name__
        if kind == "TableScan":
            yield variant, above
            continue
        below = _below(kind, variant, above)
        waiting += [(child, below) for child in node.inputs()]


def _below(kind: str, variant: Any, above: _Above) -> _Above:
    """Return what stands above the input of a node."""
    match kind:
        case "SubqueryAlias":
            return above
        case "Filter":
            return replace(above, filters=(*above.filters, variant.predicate()))
        case "Projection":
            is_plain = not above.filters and _keeps_order_columns(variant, above)
            return above if is_plain else _Above()
        case "Limit":
            counts = [_number(variant.skip()), _number(variant.fetch())]
            return _Above(limit=None if None in counts else sum(cast("list[int]", counts)))
        case "Sort":
            limit = variant.get_fetch_val()
            order = _order(variant.sort_exprs())
            if limit is None:
                return replace(above, order=None, limit=None)
            return _Above() if order is None else _Above(order=order, limit=limit)
        case _:
            return _Above()


def _number(expression: Expression | None) -> int | None:
    if expression is None or expression.variant_name() != "Literal":
        return None
    value = expression.python_value().as_py()
    return value if isinstance(value, int) else None


def _keeps_order_columns(projection: Any, above: _Above) -> bool:
    """Whether the columns that rows are ordered by go through a projection unchanged."""
    if above.order is None:
        return True
    renamed = (e for e in projection.projections() if e.variant_name() != "Column")
    return not any(e.schema_name() in ("created_at", "id") for e in renamed)


def _order(sorts: Sequence[Any]) -> Order | None:
    """Return the order, if it is by creation time alone or then by ascending id."""
    keys = [(_column(sort.expr()), sort.ascending()) for sort in sorts]
    if keys[0][0] != "created_at" or keys[1:] not in ([], [("id", True)]):
        return None
    return Order.OLDEST if keys[0][1] else Order.NEWEST


def _wanted(scan: Any, above: _Above, table: AnyTable) -> Wanted:
    narrowed = _all([_narrow(e, table) for e in (*above.filters, *scan.filters())])
    columns = frozenset(name for _, name in scan.projection())
    limit = above.limit
    if limit is None and not above.filters and scan.fetch() is not None:
        limit = scan.fetch()
    is_unordered = above.order is not None and not table.is_ordered
    if limit is None or not narrowed.is_exact or is_unordered:
        return Wanted(columns, narrowed.conditions)
    return Wanted(columns, narrowed.conditions, above.order, limit)


def _merged(several: Sequence[Wanted]) -> Wanted:
    """Return what covers several readings of one table."""
    first = several[0]
    columns = frozenset[str]().union(*(wanted.columns for wanted in several))
    if all(wanted[1:] == first[1:] for wanted in several):
        return first._replace(columns=columns)
    return Wanted(columns, _any([Narrowed(wanted.conditions) for wanted in several]).conditions)


# -- conditions ------------------------------------------------------------------------------------


def _narrow(expression: Expression, table: AnyTable) -> Narrowed:
    """Return what a condition says about stored columns."""
    operator = _operator(expression)
    if operator == "AND":
        return _all([_narrow(part, table) for part in _flat(expression, operator)])
    if operator == "OR":
        return _any([_narrow(part, table) for part in _flat(expression, operator)])
    column, test, values = _test(expression, operator)
    narrow = table.narrow.get(column)
    if narrow is None or test is None or not values:
        return Narrowed()
    return narrow(test, values)


def _all(parts: Sequence[Narrowed]) -> Narrowed:
    conditions = tuple(condition for part in parts for condition in part.conditions)
    return Narrowed(conditions, all(part.is_exact for part in parts))


def _any(parts: Sequence[Narrowed]) -> Narrowed:
    """Combine alternatives: of columns that each of them limits to some values, those of any."""
    sets = [
        {it.column: it.values for it in part.conditions if it.comparison is Comparison.IN}
        for part in parts
    ]
    conditions = tuple(
        Condition(
            column,
            Comparison.IN,
            tuple(dict.fromkeys(value for values in sets for value in values[column])),
        )
        for column in sets[0]
        if all(column in values for values in sets)
    )
    is_simple = all(part.is_exact and len(part.conditions) == 1 for part in parts)
    return Narrowed(conditions, is_simple and len(conditions) == 1)


def _flat(expression: Expression, operator: str) -> list[Expression]:
    """Return the operands of a chain of one operator. A loop: chains may be long."""
    parts: list[Expression] = []
    waiting = [expression]
    while waiting:
        part = waiting.pop()
        if _operator(part) == operator:
            waiting += reversed(part.rex_call_operands())
        else:
            parts.append(part)
    return parts


def _test(expression: Expression, operator: str) -> tuple[str, Test | None, tuple[Constant, ...]]:
    """Return column, test and constants of a comparison; no test when it is something else."""
    nothing = ("", None, ())
    if operator not in ("=", "!=", "<", "<=", ">", ">=", "in list", "like"):
        return nothing
    operands = expression.rex_call_operands()
    column = _column(operands[0])
    if column is None and len(operands) == 2:
        column = _column(operands[1])
        operands = operands[::-1]
        operator = _FLIPPED.get(operator, operator)
    values = [_constant(operand) for operand in operands[1:]]
    if column is None or any(value is None for value in values):
        return nothing
    constants = tuple(cast("list[Constant]", values))
    match operator:
        case "=":
            return column, Test.IN, constants
        case "!=":
            return column, Test.NOT_IN, constants
        case "in list":
            is_negated = expression.to_variant().negated()
            return column, Test.NOT_IN if is_negated else Test.IN, constants
        case "like":
            return (column, *_pattern(str(constants[0])))
        case _:
            return (column, *_range(operator, constants[0]))


def _range(operator: str, value: Constant) -> tuple[Test | None, tuple[Constant, ...]]:
    if operator in (">", "<="):
        if not isinstance(value, int) or value >= _NUMBER_MAX:
            return None, ()
        value += 1
    return Test.AT_LEAST if operator.startswith(">") else Test.BELOW, (value,)


def _pattern(pattern: str) -> tuple[Test | None, tuple[Constant, ...]]:
    """Return the test of a LIKE: equality, or a prefix and nothing else."""
    wildcard = _WILDCARD.search(pattern)
    if wildcard is None:
        return Test.IN, (pattern,)
    if wildcard.start() == len(pattern) - 1 and wildcard.group() == "%" and len(pattern) > 1:
        return Test.PREFIX, (pattern[:-1],)
    return None, ()


def _operator(expression: Expression) -> str:
    if expression.variant_name() not in ("BinaryExpr", "InList", "Like"):
        return ""
    return cast("str", expression.rex_call_operator())


def _column(expression: Expression) -> str | None:
    if expression.variant_name() != "Column":
        return None
    return cast("str", expression.to_variant().name())


def _constant(expression: Expression) -> Constant | None:
    """Return a text, or the number of a timestamp in the unit of its column; else None."""
    if expression.variant_name() != "Literal":
        return None
    scalar = expression.python_value()
    value = getattr(scalar, "value", None)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = scalar.as_py()
    return text if isinstance(text, str) else None
