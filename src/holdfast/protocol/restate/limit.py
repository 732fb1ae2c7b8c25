"""Limits of what is taken from peers. That of a frame's size is in `frame`."""

TIME_MS_MAX = 253_402_300_799_999
"""The end of the year 9999, as milliseconds since the epoch. Later times and longer durations are
taken for it, so that they can be stored, added and shown."""

SCHEMA_DEPTH_MAX = 100
"""Nesting of a handler's JSON schema. A deeper one is refused at registration."""
