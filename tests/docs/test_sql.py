"""The reference of SQL lists what there is. `python -m tests.docs.test_sql` writes its tables."""

from __future__ import annotations

import re

from holdfast.admin.sql.absent import ABSENT, MEANING
from holdfast.admin.sql.column import AnyTable
from holdfast.admin.sql.table import TABLES

from .document import ROOT

PAGE = ROOT / "docs" / "reference" / "sql.md"
BEGIN = "<!-- tables: written by tests/docs/test_sql.py -->\n"
END = "<!-- end of tables -->\n"


def described(table: AnyTable) -> str:
    """Return the section of a table."""
    lines = [f"### `{table.name}`", "", table.meaning, ""]
    if checked := [f"`{name}`" for name in table.narrow]:
        lines += [f"Conditions that save reading: on {', '.join(checked)}.", ""]
    lines += ["| column | type | meaning |", "|---|---|---|"]
    lines += [f"| `{it.name}` | {it.kind.value} | {it.meaning} |" for it in table.columns]
    return "\n".join(lines) + "\n"


def tables() -> str:
    """Return the sections of all tables that can have rows, and the names of the others."""
    sections = [described(table) for table in TABLES if table not in ABSENT]
    names = ", ".join(f"`{table.name}`" for table in ABSENT)
    sections.append(
        "### Tables without rows\n\n"
        f"{names}: they are there because Restate's tools look into them. {MEANING}\n"
    )
    return "\n".join(sections)


def test_the_reference_of_sql_has_all_tables_and_columns() -> None:
    found = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    assert found.strip() == tables().strip(), "run: python -m tests.docs.test_sql"


def test_every_meaning_is_one_line() -> None:
    for table in TABLES:
        for text in (table.meaning, *(column.meaning for column in table.columns)):
            assert text
            assert not re.search(r"[|\n]", text), text


if __name__ == "__main__":
    head, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n{tables()}\n{END}{rest.partition(END)[2]}")
