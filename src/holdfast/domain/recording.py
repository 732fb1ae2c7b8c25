"""A run as a file: what an attempt of it would get, for replays elsewhere.

The format is JSON: an object with `format`, `status`, `start` and `entries`. `start` and entries
are arrays as in `domain.message`, `[type, field, …]`, with bytes in base64. Fields are appended,
never moved, so old files stay readable; `format` is raised if they did not.
"""

from __future__ import annotations

import msgspec

from holdfast.domain.errors import UsageError
from holdfast.domain.message import Entry, Start

FORMAT = 1


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """The journal of one invocation, and what else an attempt of it needs."""

    format: int = FORMAT
    status: str = ""
    """Of the invocation when it was exported, such as `suspended`. For people."""
    start: Start
    """Without state: what was read is in the journal."""
    entries: tuple[Entry, ...]

    @property
    def invocation_id(self) -> str:
        """Id of the invocation, `inv_1…`."""
        return self.start.invocation_id

    @property
    def target(self) -> str:
        """`Service/handler`."""
        return f"{self.start.service}/{self.start.handler}"


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Recording)


def encode_recording(recording: Recording) -> bytes:
    """Return the content of a file."""
    return _encoder.encode(recording)


def decode_recording(content: bytes | str) -> Recording:
    """Read the content of a file.

    Raises:
        UsageError: HF0553, it is no recording, or one of a newer version.
    """
    try:
        recording = _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"This is not a recording of an invocation: {error}",
            code="HF0553",
            hint="holdfast invocations export ID writes one.",
        ) from error
    if recording.format != FORMAT:
        raise UsageError(
            f"This recording has format {recording.format}; {FORMAT} can be read",
            code="HF0553",
            hint="Use the version of Holdfast that wrote it, or a newer one.",
        )
    return recording
