"""Streams between the server and handlers: one port (`base`), one adapter per carrier."""
