"""Which API a request belongs to, from its path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from . import anthropic, chat, gemini, responses
from .reading import Conversation
from .scenario import Api, JsonObject, ModelRequest, Turn


class Dialect(NamedTuple):
    """How one API is read and written."""

    read: Callable[[JsonObject], Conversation]
    answer: Callable[[Turn, ModelRequest, int], JsonObject]
    events: Callable[[Turn, ModelRequest, int], Iterator[str]]


DIALECTS: dict[Api, Dialect] = {
    "anthropic": Dialect(anthropic.read, anthropic.answer, anthropic.events),
    "chat": Dialect(chat.read, chat.answer, chat.events),
    "gemini": Dialect(gemini.read, gemini.answer, gemini.events),
    "responses": Dialect(responses.read, responses.answer, responses.events),
}
"""Of all APIs that hold a conversation."""


class Route(NamedTuple):
    """What the path of a request says."""

    api: Api
    model: str | None = None
    """None: it is in the body."""
    is_stream: bool = False
    """False: the body may still say so."""


_PATHS: dict[str, Api] = {
    "/v1/chat/completions": "chat",
    "/v1/embeddings": "embeddings",
    "/v1/messages": "anthropic",
    "/v1/responses": "responses",
}
_GEMINI = ("/v1beta/models/", "/v1/models/")
_GEMINI_VERBS: dict[str, tuple[Api, bool]] = {
    "generateContent": ("gemini", False),
    "streamGenerateContent": ("gemini", True),
    "embedContent": ("embeddings", False),
    "batchEmbedContents": ("embeddings", False),
}


def route_of(path: str) -> Route | None:
    """Return the route of a path without its query; `None` for a path that no API has."""
    if path in _PATHS:
        return Route(_PATHS[path])
    for prefix in _GEMINI:
        model, _, verb = path.removeprefix(prefix).partition(":")
        if path.startswith(prefix) and verb in _GEMINI_VERBS:
            api, is_stream = _GEMINI_VERBS[verb]
            return Route(api, model, is_stream)
    return None
