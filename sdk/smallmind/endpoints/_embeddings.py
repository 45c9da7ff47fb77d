"""``POST /v1/embeddings``: texts in, vectors out."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from smallmind._engine import Engine
from smallmind.endpoints._asgi import (
    AsgiApp,
    ClientGoneError,
    Receive,
    Scope,
    Send,
    headers_of,
    live,
    read_body,
    send_json,
    unless_gone,
)
from smallmind.endpoints._refusals import Refusal, refusal_of
from smallmind_engine.kernels import FloatArray
from smallmind_engine.runtime.reading import EmbeddingOptions, EmbeddingResult, Pooling
from smallmind_engine.telemetry import ReasonCode, SmallMindError
from smallmind_engine.telemetry.errors import invalid_option

_MOST_BYTES: Final = 8 << 20
_MOST_TEXTS: Final = 2048
_LONGEST_ID: Final = 128
_INVALID: Final = ReasonCode.OPTION_INVALID.value


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a client asks for.

    Attributes:
        texts: to embed.
        as_base64: whether vectors are to be bytes, not numbers.
    """

    texts: list[str]
    as_base64: bool


def embeddings_app(
    engine: Engine,
    *,
    options: EmbeddingOptions | None = None,
    max_body_bytes: int = _MOST_BYTES,
    max_texts: int = _MOST_TEXTS,
) -> AsgiApp:
    """An endpoint that embeds texts as ``engine.embed`` does.

    A request's ``traceparent`` and ``x-request-id`` headers are the ids of its events, log lines
    and spans; ``x-request-id`` is on the answer too. A client that goes away stops its work.

    Args:
        engine: embeds; it stays the caller's.
        options: of each request, such as ``request_timeout``; its ids are the request's own.
        max_body_bytes: a larger body is refused.
        max_texts: a request with more is refused.

    Returns:
        An ASGI application for all paths; mount it at one.

    Raises:
        ConfigError: the options give a vector for each token, not for each text.
    """
    chosen = options or EmbeddingOptions()

    if chosen.pooling is Pooling.NONE:
        raise invalid_option("pooling", chosen.pooling, "one that gives a vector for each text")

    async def answer(headers: Mapping[str, str], receive: Receive, send: Send) -> None:
        body = await read_body(receive, max_body_bytes)
        asked = await asyncio.to_thread(_asked, body, engine.model.spec.width, max_texts)
        work = engine.aembed(
            asked.texts,
            options=chosen,
            traceparent=headers.get("traceparent"),
            request_id=_usable_id(headers.get("x-request-id")),
        )
        result = await unless_gone(work, receive)
        document = await asyncio.to_thread(_document, result, asked)
        await send_json(send, 200, document, {"x-request-id": result.correlation.request_id})

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
            return
        if scope["type"] != "http":
            raise NotImplementedError(f"no answer for {scope['type']!r}")
        try:
            _check_method(scope["method"])
            await answer(headers_of(scope), receive, send)
        except ClientGoneError:
            return
        except Exception as error:
            refusal = refusal_of(error)
            allowed = {"allow": "POST"} if refusal.status == 405 else {}
            await send_json(send, refusal.status, refusal.document, {**refusal.headers, **allowed})
            if not isinstance(error, Refusal | SmallMindError):
                raise  # the server logs it

    return app


def _check_method(method: str) -> None:
    if method != "POST":
        raise Refusal(405, f"{method} is not POST", "METHOD_NOT_ALLOWED")


def _usable_id(given: str | None) -> str | None:
    """The client's id for its request; None for one that would not look well in a log."""
    fine = given is not None and 0 < len(given) <= _LONGEST_ID and given.isascii()
    return given if fine and given is not None and given.isprintable() else None


def _asked(body: bytes, width: int, max_texts: int) -> _Asked:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is no JSON: {error}", _INVALID) from error
    if not isinstance(document, dict):
        raise Refusal(400, "the body is no JSON object", _INVALID)
    if not isinstance(document.get("model"), str):
        raise Refusal(400, "model must be the name of a model", _INVALID, "model")
    form = document.get("encoding_format", "float")
    if form not in ("float", "base64"):
        message = f"encoding_format is {form!r}; it must be float or base64"
        raise Refusal(400, message, _INVALID, "encoding_format")
    size = document.get("dimensions")
    if size is not None and size != width:
        message = f"dimensions is {size!r}; this model's vectors have {width}"
        raise Refusal(400, message, _INVALID, "dimensions")
    return _Asked(_texts(document.get("input"), max_texts), form == "base64")


def _texts(given: object, max_texts: int) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise Refusal(400, "input must be a text, or a list of texts", _INVALID, "input")
    if len(texts) > max_texts:
        message = f"input has {len(texts)} texts; {max_texts} are taken"
        raise Refusal(400, message, _INVALID, "input")
    return texts


def _document(result: EmbeddingResult, asked: _Asked) -> dict[str, object]:
    shown = _as_base64 if asked.as_base64 else _as_numbers
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": shown(vector)}
            for index, vector in enumerate(result.vectors)
        ],
        "model": result.model,
        "usage": {"prompt_tokens": result.prompt_tokens, "total_tokens": result.prompt_tokens},
    }


def _as_numbers(vector: FloatArray) -> object:
    return vector.tolist()


def _as_base64(vector: FloatArray) -> object:
    """32-bit floats, little-endian, as OpenAI sends them."""
    return base64.b64encode(vector.astype(np.dtype("<f4")).tobytes()).decode("ascii")
