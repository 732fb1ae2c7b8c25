"""Limits of what is taken from peers. That of a frame's size is in `frame`."""

SCHEMA_DEPTH_MAX = 100
"""Nesting of a handler's JSON schema. A deeper one is refused at registration."""
