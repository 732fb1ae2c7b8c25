"""The embeddings APIs of OpenAI and Gemini. A text has the same vector each time."""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import cast

from .reading import object_in, objects_in
from .scenario import CHARACTERS_PER_TOKEN, JsonObject

DIMENSIONS = 8


def answer(model: str, body: JsonObject) -> JsonObject:
    """Return the body of an answer in the shape that the request asks for."""
    if "requests" in body or "content" in body:
        requests = list(objects_in(body.get("requests"))) or [body]
        texts = [_text(object_in(request.get("content")) or {}) for request in requests]
        vectors = [{"values": _vector(text)} for text in texts]
        return {"embeddings": vectors} if "requests" in body else {"embedding": vectors[0]}
    given = body.get("input")
    inputs = cast("list[object]", given) if isinstance(given, list) else [given]
    texts = [str(text) for text in inputs]
    tokens = max(1, sum(map(len, texts)) // CHARACTERS_PER_TOKEN)
    is_packed = body.get("encoding_format") == "base64"
    return {
        "object": "list",
        "model": model,
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": _packed(_vector(text)) if is_packed else _vector(text),
            }
            for index, text in enumerate(texts)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _text(content: JsonObject) -> str:
    return "".join(str(part.get("text", "")) for part in objects_in(content.get("parts")))


def _vector(text: str) -> list[float]:
    digest = hashlib.sha256(text.encode()).digest()
    return [byte / 256 for byte in digest[:DIMENSIONS]]


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
