"""The named statements of `query.sql`."""

from __future__ import annotations

from importlib.resources import files


def parse_queries(text: str) -> dict[str, str]:
    """Return the statements of a query file by name, each on one line and without comments.

    A statement begins after its `-- name: …` line and ends before the next one.
    """
    queries: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("-- name: "):
            lines = queries.setdefault(line.removeprefix("-- name: ").strip(), [])
            assert not lines, f"two statements are named so: {line}"
        elif line and not line.startswith("--"):
            lines.append(line.strip())
    return {name: " ".join(parts) for name, parts in queries.items()}


QUERIES = parse_queries(files("holdfast.storage.sqlite").joinpath("query.sql").read_text("utf-8"))
"""All statements by name."""
