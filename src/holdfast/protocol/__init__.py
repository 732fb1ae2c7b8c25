"""Bytes on the worker socket: frames and their codec. Values in, bytes out; no I/O."""
