"""Which requests are model calls, from method, address and body."""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from holdfast.ai.provider import anthropic, embedding, gemini, openai_chat, openai_responses
from holdfast.ai.provider.json_value import decoded, object_in
from holdfast.ai.provider.reader import Reader
from holdfast.domain.detail import ModelCall

# Ends of paths whose body names the model. Without that it is something else with the same name,
# such as the messages of a thread.
_PATHS: tuple[tuple[str, Reader], ...] = (
    ("/chat/completions", openai_chat.READER),
    ("/responses", openai_responses.READER),
    ("/messages", anthropic.READER),
    ("/embeddings", embedding.READER),
)
_IN_PATH = re.compile(r"/models/(?P<model>[^/]+):(?P<verb>\w+)$")
_DEPLOYMENT = re.compile(r"/deployments/(?P<model>[^/]+)/")
_VERBS: dict[str, Reader] = {
    "generateContent": gemini.READER,
    "streamGenerateContent": gemini.READER,
    "embedContent": embedding.READER,
    "batchEmbedContents": embedding.READER,
    "rawPredict": anthropic.READER,
    "streamRawPredict": anthropic.READER,
}
# The names that OpenTelemetry gives them.
_HOSTS: dict[str, str] = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "api.anthropic.com": "anthropic",
    "api.cohere.com": "cohere",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
    "openrouter.ai": "openrouter",
}


class ModelRequest(NamedTuple):
    """A request that is a model call."""

    reader: Reader
    call: ModelCall
    """What the request says of it."""


def model_request(method: str, host: str, path: str, content: bytes) -> ModelRequest | None:
    """Read a request; `None` if it is no model call.

    Args:
        host: Without the port.
        path: Without the query.
        content: The body, decoded from its transfer.
    """
    if method != "POST":
        return None
    in_path = _IN_PATH.search(path)
    reader = _VERBS.get(in_path["verb"]) if in_path else _reader_of(path)
    if reader is None:
        return None
    body = object_in(decoded(content))
    if in_path is not None:
        model = in_path["model"]
    elif "model" in body:
        model = ""
    elif (deployment := _DEPLOYMENT.search(path)) is not None:
        model = deployment["model"]
    else:
        return None
    call = reader.request(body)
    is_gemini = in_path is not None and reader is not anthropic.READER
    call = msgspec.structs.replace(
        call,
        provider=_provider(host) or ("gcp.gemini" if is_gemini else reader.provider),
        request_model=call.request_model or model,
        is_streamed=call.is_streamed or (in_path is not None and "stream" in in_path["verb"]),
    )
    return ModelRequest(reader, call)


def _reader_of(path: str) -> Reader | None:
    path = path.rstrip("/")
    return next((reader for ending, reader in _PATHS if path.endswith(ending)), None)


def _provider(host: str) -> str | None:
    return next(
        (name for known, name in _HOSTS.items() if host == known or host.endswith(f".{known}")),
        None,
    )
