"""``smallmind rag ask``."""

from __future__ import annotations

from typing import Annotated

import typer

from smallmind._cli.exit_codes import ExitCode, exit_code_of
from smallmind._cli.failures import tell
from smallmind._cli.interrupts import interruptible
from smallmind._cli.json_documents import emit, plain, result_document
from smallmind._cli.parameters import (
    DEFAULTS,
    AsJson,
    Backend,
    ContextLength,
    Exporters,
    MaxTokens,
    Seed,
    Temperature,
    Timeout,
    Traceparent,
    Tracestate,
    complete_model,
)
from smallmind._cli.rag_parts import (
    DEFAULT_INDEX,
    PROMPT,
    SEARCH,
    EmbedderName,
    Holds,
    Index,
    Mode,
    TopSources,
    User,
    existing_index,
    show_sources,
    user_of,
)
from smallmind._cli.requests import load_with_bars
from smallmind._cli.screen import Screen
from smallmind.rag import (
    GroundingRules,
    InsufficientEvidenceError,
    PromptOptions,
    RagAnswer,
    RagPipeline,
    RagStream,
    RetrievalOptions,
)
from smallmind_engine.runtime import EngineOptions, GenerationOptions
from smallmind_engine.telemetry import SmallMindError

_RULES = GroundingRules()


def rag_ask(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="what to answer")],
    *,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="answers: a .gguf file or a name of `smallmind list`",
            autocompletion=complete_model,
        ),
    ] = "smollm2",
    index: Index = DEFAULT_INDEX,
    user: User = None,
    holds: Holds = None,
    mode: Mode = None,
    sources: TopSources = SEARCH.top_k,
    min_coverage: Annotated[
        float, typer.Option("--min-coverage", help="share of the question's words in a source")
    ] = _RULES.min_coverage,
    min_similarity: Annotated[
        float, typer.Option("--min-similarity", help="or its nearness to the question")
    ] = _RULES.min_similarity,
    instructions: Annotated[
        str,
        typer.Option("--instructions", help="rules for the model", show_default="to cite sources"),
    ] = PROMPT.instructions,
    max_tokens: MaxTokens = DEFAULTS.max_tokens,
    temperature: Temperature = 0.0,
    seed: Seed = None,
    timeout: Timeout = None,
    backend: Backend = "auto",
    context_length: ContextLength = None,
    embedder: EmbedderName = "hashing",
    exporter: Exporters = None,
    traceparent: Traceparent = None,
    tracestate: Tracestate = None,
    as_json: AsJson = False,
) -> ExitCode:
    """Answer a question from the documents of an index, with citations.

    Exits with 1 when no source is good enough to answer from.
    """
    screen = Screen.open()
    who = user_of(user, holds)
    rules = GroundingRules(min_coverage=min_coverage, min_similarity=min_similarity)
    retrieval = RetrievalOptions(mode=mode, top_k=sources)
    with interruptible() as token, existing_index(screen, index, embedder, token) as opened:
        options = GenerationOptions(
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            request_timeout=timeout,
            cancellation=token,
            traceparent=traceparent,
            tracestate=tracestate,
        )
        engine_options = EngineOptions(backend=backend, context_length=context_length)
        with load_with_bars(
            screen,
            model,
            options=engine_options,
            exporters=exporter or None,
            cancellation=token,
        ) as engine:
            pipeline = RagPipeline(
                engine,
                opened,
                retrieval=retrieval,
                rules=rules,
                prompt=PromptOptions(instructions=instructions),
            )
            try:
                stream = pipeline.stream(question, user=who, options=options)
            except InsufficientEvidenceError as error:
                tell(error)
                return ExitCode.FAILED
            answer = _finished(screen, stream, quiet=as_json)
    if as_json:
        emit(_document(answer))
    else:
        screen.line()
        show_sources(screen, answer.sources, answer.citations)
        for mark in answer.unknown_marks:
            screen.note(f"[{mark}] stands for no source: the model made it up", "yellow")
    return exit_code_of(answer.result)


def _finished(screen: Screen, stream: RagStream, *, quiet: bool) -> RagAnswer:
    begun = False
    with stream:
        try:
            for chunk in stream:
                if chunk.text and not quiet:
                    begun = True
                    screen.write(chunk.text)
        except (SmallMindError, KeyboardInterrupt):
            if begun:
                screen.write("\n")
            raise
        answer = stream.answer
    if answer is None:  # pragma: no cover - a stream that ended has an answer or raised
        raise RuntimeError
    if begun and not answer.text.endswith("\n"):
        screen.write("\n")
    return answer


def _document(answer: RagAnswer) -> dict[str, object]:
    return {
        "text": answer.text,
        "citations": plain(answer.citations),
        "unknown_marks": plain(answer.unknown_marks),
        "sources": plain(answer.sources),
        "retrieval": plain(answer.retrieval),
        "result": result_document(answer.result),
    }
