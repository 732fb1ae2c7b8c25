"""Approvals: what a person is asked, and what the handler hears of the decision.

An approval is an awakeable with an entry in an inbox. Its id is the id of the awakeable, so that
handlers behind servers without an inbox wait for it, too.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

TITLE_LENGTH_MAX = 500
"""Characters of a title, and of each name of somebody who decides."""
TEXT_LENGTH_MAX = 10_000
"""Characters of a reason or a comment."""

ON_TIMEOUT = ("reject", "approve", "fail")
"""What can happen when nobody decides in time."""


class ApprovalStatus(IntEnum):
    """Where an approval is in its life. All but the first are final."""

    OPEN = 0
    APPROVED = 1
    REJECTED = 2
    EXPIRED = 3
    """Nobody decided in time."""
    WITHDRAWN = 4
    """The handler does not want to know any more, or its invocation has ended."""


_NULL = msgspec.Raw(b"null")


class DecisionContent(msgspec.Struct, frozen=True):
    """What the handler gets, as JSON.

    Where there is no inbox, people write it by hand: `approved` is enough.
    """

    approved: bool
    value: msgspec.Raw = _NULL
    """What was filled into the form."""
    arguments: msgspec.Raw = _NULL
    """All arguments, as they are now; null: as they were."""
    by: str = ""
    comment: str = ""
    at_ms: int = 0
    timed_out: bool = False


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(DecisionContent)


def encode_decision(content: DecisionContent) -> bytes:
    """Return a decision as the handler gets it."""
    return _encoder.encode(content)


def decode_decision(content: bytes) -> DecisionContent:
    """Return a decision as it was written.

    Raises:
        msgspec.DecodeError: It is none.
    """
    return _decoder.decode(content)


def raw_json(content: bytes) -> msgspec.Raw:
    """Return JSON to be put into a decision as it is; none is null."""
    return msgspec.Raw(content) if content else _NULL
