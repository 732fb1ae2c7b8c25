"""Telling somebody else's server something: one POST with JSON."""

from __future__ import annotations

from urllib.parse import urlsplit

_TIMEOUT_S = 10.0


class WebhookError(Exception):
    """The other side did not take it. Worth another try."""


def is_web_url(url: object) -> bool:
    """Whether something is a URL that can be posted to."""
    if not isinstance(url, str):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def post_json(url: str, body: bytes) -> int:
    """Post JSON and return the status. Blocks, for 10 s at most.

    Raises:
        WebhookError: Nobody answered, or not with 2xx.
    """
    # Late: importing holdfast must not load an HTTP client.
    import urllib.error
    import urllib.request

    assert is_web_url(url), f"{url!r} was checked"
    request = urllib.request.Request(
        url, body, {"content-type": "application/json", "user-agent": "holdfast"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            status: int = response.status
            return status
    except urllib.error.HTTPError as error:
        with error:
            raise WebhookError(f"{_place(url)} answered {error.code}") from None
    except OSError as error:
        raise WebhookError(f"{_place(url)} cannot be reached: {error}") from error


def _place(url: str) -> str:
    # Without the rest, which may hold a secret.
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}"
