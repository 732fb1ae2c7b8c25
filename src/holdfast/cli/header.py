"""What may stand in a header of HTTP."""

from __future__ import annotations

from holdfast.cli.problem import usage_error


def check_header(what: str, value: str, hint: str) -> None:
    """Refuse what HTTP cannot carry, without showing it: it may be a secret.

    Raises:
        CommandError: HF1207.
    """
    if not value.isascii() or not value.isprintable():
        raise usage_error(
            f"The {what} cannot be sent",
            code="HF1207",
            cause="it has a line break, or a character that is not printable ASCII",
            hint=hint,
        )
