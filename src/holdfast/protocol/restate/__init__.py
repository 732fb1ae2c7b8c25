"""Restate's wire: protobuf frames and discovery manifests, to our values and back. No I/O.

`docs/reference/protocol.md` describes it; ADRs 0015 and 0016 say why it is done so.
"""
