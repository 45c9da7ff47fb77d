"""The embeddings endpoint, asked by OpenAI's own client, and message by message."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest

from engines import Recorder
from smallmind import Engine, load
from smallmind.endpoints import embeddings_app
from smallmind.reading import EmbeddingOptions
from smallmind_engine.telemetry import EmbeddingEnded, RequestStatus
from smallmind_engine.telemetry.errors import ConfigError
from tiny_encoders import WIDTH, write_tiny_encoder

TEXTS = ["the cat sat on the mat", "it is able", "the"]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture
def engine(tmp_path: Path, recorder: Recorder) -> Iterator[Engine]:
    path = write_tiny_encoder(tmp_path / "encoder.gguf")
    with load(path, backend="numpy", exporters=[recorder], max_concurrent_requests=1,
              max_queue_depth=0) as made:  # fmt: skip
        yield made


def asking(app: Any, ask: Callable[[openai.AsyncOpenAI], Awaitable[Any]]) -> Any:
    """Let OpenAI's client talk to the application."""

    async def run() -> Any:
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with (
            httpx2.AsyncClient(transport=transport) as http,
            openai.AsyncOpenAI(
                api_key="none", base_url="http://engine/v1", http_client=http, max_retries=0
            ) as client,
        ):
            return await ask(client)

    return asyncio.run(run())


@pytest.mark.parametrize("how", [{}, {"encoding_format": "float"}, {"dimensions": WIDTH}])
def test_the_official_client_gets_the_vectors_of_the_engine(
    engine: Engine, how: dict[str, Any]
) -> None:
    answer = asking(
        embeddings_app(engine),
        lambda client: client.embeddings.create(model="any", input=TEXTS, **how),
    )
    expected = engine.embed(TEXTS)
    assert np.array_equal(
        np.array([each.embedding for each in answer.data], np.float32), expected.vectors
    )
    assert [each.index for each in answer.data] == [0, 1, 2]
    assert (answer.object, answer.model) == ("list", engine.model.name)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == expected.prompt_tokens


def test_one_text_needs_no_list(engine: Engine) -> None:
    answer = asking(
        embeddings_app(engine), lambda client: client.embeddings.create(model="m", input="the cat")
    )
    assert len(answer.data) == 1


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [[1, 2]]}, "input"),
        ({"input": ["a"] * 5}, "input"),
        ({"input": "a", "dimensions": 3}, "dimensions"),
        ({"input": "a", "encoding_format": "ascii"}, "encoding_format"),
        ({"input": "a", "model": 7}, "model"),
        ({"input": "the " * 200}, None),
    ],
)
def test_what_cannot_be_is_refused_with_the_field(
    engine: Engine, asked: dict[str, Any], param: str | None
) -> None:
    app = embeddings_app(engine, max_texts=4)
    with pytest.raises(openai.BadRequestError) as caught:
        asking(app, lambda client: client.embeddings.create(**{"model": "m", **asked}))
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"
    assert caught.value.code in {"OPTION_INVALID", "CONTEXT_OVERFLOW"}


def test_a_full_queue_is_429_with_the_code_and_a_time_to_wait(engine: Engine) -> None:
    app = embeddings_app(engine)
    refused: list[openai.RateLimitError] = []

    def on_progress(done: int, total: int) -> None:
        with pytest.raises(openai.RateLimitError) as caught:
            asking(app, lambda client: client.embeddings.create(model="m", input="the"))
        refused.append(caught.value)

    engine.embed("the", on_progress=on_progress)
    (error,) = refused
    assert error.code == "BACKPRESSURE_QUEUE_FULL"
    assert error.response.headers["retry-after"] == "1"


def test_a_deadline_is_504(engine: Engine) -> None:
    app = embeddings_app(engine, options=EmbeddingOptions(request_timeout=1e-9))
    with pytest.raises(openai.InternalServerError) as caught:
        asking(app, lambda client: client.embeddings.create(model="m", input="the"))
    assert (caught.value.status_code, caught.value.code) == (504, "CANCELLED_BY_TIMEOUT")


def test_a_closed_engine_is_503(engine: Engine) -> None:
    engine.close()
    with pytest.raises(openai.InternalServerError) as caught:
        asking(
            embeddings_app(engine),
            lambda client: client.embeddings.create(model="m", input="the"),
        )
    assert (caught.value.status_code, caught.value.code) == (503, "CLOSED")


def test_ids_of_the_client_are_on_the_events_and_the_answer(
    engine: Engine, recorder: Recorder
) -> None:
    headers = {"traceparent": PARENT, "x-request-id": "their-7"}
    raw = asking(
        embeddings_app(engine),
        lambda client: client.embeddings.with_raw_response.create(
            model="m", input="the", extra_headers=headers
        ),
    )
    assert raw.headers["x-request-id"] == "their-7"
    (ended,) = recorder.of(EmbeddingEnded)
    assert (ended.correlation.request_id, ended.correlation.trace_id) == ("their-7", TRACE)


@pytest.mark.parametrize("name", ["", "x" * 129, "naïve", "a\tb"])
def test_an_id_that_does_not_look_well_is_not_taken(
    engine: Engine, recorder: Recorder, name: str
) -> None:
    status, headers, _ = call(embeddings_app(engine), {"model": "m", "input": "the"}, name=name)
    assert status == 200
    assert headers["x-request-id"].startswith("req-")


def test_vectors_of_tokens_are_no_answer(engine: Engine) -> None:
    with pytest.raises(ConfigError, match="a vector for each text"):
        embeddings_app(engine, options=EmbeddingOptions(pooling="none"))


# -- message by message --------------------------------------------------------------------------


def call(
    app: Any,
    document: object,
    *,
    method: str = "POST",
    name: str | None = None,
    body: bytes | None = None,
    pieces: int = 1,
) -> tuple[int, dict[str, str], Any]:
    """Ask by the messages of ASGI; status, headers and document of the answer."""
    whole = json.dumps(document).encode() if body is None else body
    size = -(-len(whole) // pieces) or 1
    parts = [whole[at : at + size] for at in range(0, max(1, len(whole)), size)]
    messages = [
        {"type": "http.request", "body": part, "more_body": at < len(parts) - 1}
        for at, part in enumerate(parts)
    ]
    sent: list[dict[str, Any]] = []

    async def run() -> None:
        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop(0)
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        headers = [] if name is None else [(b"X-Request-Id", name.encode("latin-1"))]
        await app({"type": "http", "method": method, "headers": headers}, receive, send)

    asyncio.run(run())
    start, body_sent = sent
    found = {key.decode(): value.decode("latin-1") for key, value in start["headers"]}
    assert found["content-length"] == str(len(body_sent["body"]))
    return start["status"], found, json.loads(body_sent["body"])


def test_a_body_may_come_in_pieces(engine: Engine) -> None:
    status, _, document = call(embeddings_app(engine), {"model": "m", "input": "the cat"}, pieces=9)
    assert (status, len(document["data"])) == (200, 1)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(engine: Engine, body: bytes) -> None:
    status, _, document = call(embeddings_app(engine), None, body=body)
    assert (status, document["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize("form", [["float"], {}, 7, None])
def test_forms_that_are_no_text_are_refused(engine: Engine, form: object) -> None:
    asked = {"model": "m", "input": "the", "encoding_format": form}
    status, _, document = call(embeddings_app(engine), asked)
    assert (status, document["error"]["param"]) == (400, "encoding_format")


def test_a_body_that_is_too_large_is_refused_as_it_comes(engine: Engine) -> None:
    app = embeddings_app(engine, max_body_bytes=100)
    status, _, document = call(app, {"model": "m", "input": "x" * 200}, pieces=4)
    assert (status, document["error"]["code"]) == (413, "REQUEST_TOO_LARGE")


def test_other_methods_are_not_allowed(engine: Engine) -> None:
    status, headers, _ = call(embeddings_app(engine), {}, method="GET")
    assert (status, headers["allow"]) == (405, "POST")


def test_a_fault_is_500_without_its_text_and_reaches_the_server(engine: Engine) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a secret")

    engine.aembed = broken  # type: ignore[method-assign, assignment]
    sent: list[Any] = []
    with pytest.raises(ZeroDivisionError):
        asyncio.run(_ask_once(embeddings_app(engine), sent, [b'{"model": "m", "input": "a"}']))
    assert sent[0]["status"] == 500
    assert b"secret" not in sent[1]["body"]


async def _ask_once(app: Any, sent: list[Any], bodies: list[bytes]) -> None:
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": body} for body in bodies]

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({"type": "http", "method": "POST", "headers": []}, receive, send)


def test_a_client_that_goes_away_stops_its_work(engine: Engine, recorder: Recorder) -> None:
    body = json.dumps({"model": "m", "input": TEXTS * 600}).encode()
    sent: list[Any] = []
    asyncio.run(_ask_once(embeddings_app(engine), sent, [body]))
    assert sent == []
    (ended,) = recorder.of(EmbeddingEnded)
    assert ended.status is RequestStatus.CANCELLED


def test_a_client_that_goes_away_before_its_body_ended_is_forgotten(
    engine: Engine, recorder: Recorder
) -> None:
    sent: list[Any] = []
    asyncio.run(_ask_once(embeddings_app(engine), sent, []))
    assert (sent, recorder.of(EmbeddingEnded)) == ([], [])


def test_it_may_run_alone_in_a_server(engine: Engine) -> None:
    messages = ["lifespan.startup", "lifespan.shutdown"]
    sent: list[str] = []

    async def run() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": messages.pop(0)}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message["type"])

        await embeddings_app(engine)({"type": "lifespan"}, receive, send)

    asyncio.run(run())
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
