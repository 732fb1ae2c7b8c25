"""The nouns of durable execution: ids, targets, messages, failures, policies.

Standard library, `msgspec` (values) and `xxhash` (partition keys) only. No I/O, no clock.
"""
