"""The embedded store: one SQLite file, one server process."""

from holdfast.storage.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
