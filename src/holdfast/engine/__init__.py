"""The partition state machine: pure. Records in, rows to write and actions to take out.

`footprint(record)` says which rows `apply` will probably need; `apply(view, record)` decides. No
clock, no randomness, no I/O, no logging: time and ids come with the record.
"""
