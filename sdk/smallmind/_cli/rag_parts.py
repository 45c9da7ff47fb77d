"""What the commands of retrieval share: their options, the index they open, and how it looks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from smallmind._cli.requests import load_with_bars
from smallmind._cli.screen import Screen
from smallmind.rag import (
    Citation,
    Embedder,
    EngineEmbedder,
    HashingEmbedder,
    LabelRule,
    PromptOptions,
    RagIndex,
    RagIndexError,
    RetrievalMode,
    RetrievalOptions,
    RetrievedChunk,
    UserContext,
)
from smallmind_engine.control import CancellationToken
from smallmind_engine.runtime import EngineOptions
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import ConfigError

DEFAULT_INDEX: Final = Path(".smallmind-rag.db")
SEARCH: Final = RetrievalOptions()
PROMPT: Final = PromptOptions()
_EXCERPT_CHARS: Final = 160

Index = Annotated[
    Path, typer.Option("--index", envvar="SMALLMIND_RAG_INDEX", help="the file of the index")
]
EmbedderName = Annotated[
    str,
    typer.Option(
        "--embedder",
        help="what makes vectors: hashing, none, or a model as for `generate`;"
        " the same for all commands",
    ),
]
User = Annotated[
    str | None,
    typer.Option("--user", help="for whom", show_default="nobody, who sees what is public"),
]
Holds = Annotated[
    list[str] | None,
    typer.Option("--holds", help="a label that the user holds; may be given again"),
]
Mode = Annotated[
    RetrievalMode | None,
    typer.Option("--mode", help="what ranks", show_default="hybrid where there are vectors"),
]
TopSources = Annotated[int, typer.Option("--sources", "-k", help="chunks to find at most")]

_HASHING: Final = "hashing"
_NONE: Final = "none"


@contextmanager
def embedder_named(
    screen: Screen, name: str, token: CancellationToken
) -> Iterator[Embedder | None]:
    """The embedder of that name; a model is loaded for it, and closed in the end.

    Raises:
        SmallMindError: there is no such model, or it cannot be loaded.
    """
    if name == _NONE:
        yield None
    elif name == _HASHING:
        yield HashingEmbedder()
    else:
        # Its exporters would open the ports that those of the answering engine need.
        with load_with_bars(
            screen, name, options=EngineOptions(), exporters=(), cancellation=token
        ) as engine:
            embedding: Any = engine
            yield EngineEmbedder(embedding)


@contextmanager
def existing_index(
    screen: Screen, path: Path, embedder: str, token: CancellationToken
) -> Iterator[RagIndex]:
    """Open an index that is there.

    Raises:
        ConfigError: it is not.
    """
    if not path.is_file():
        raise ConfigError(
            ReasonCode.OPTION_INVALID,
            f"there is no index {str(path)!r}",
            hint="make it: smallmind rag index FOLDER",
            option="index",
            value=str(path),
        )
    with (
        embedder_named(screen, embedder, token) as made,
        RagIndex(path, embedder=made) as index,
        _embedder_hinted(),
    ):
        yield index


@contextmanager
def _embedder_hinted() -> Iterator[None]:
    """Name the option that chooses another embedder, where the index was made with one."""
    try:
        yield
    except RagIndexError as error:
        if error.reason is ReasonCode.RAG_EMBEDDER_MISMATCH:
            error.hint = (
                "choose the embedder that it was indexed with: --embedder hashing, or --embedder"
                " FILE for that of a model; or index again with this one"
            )
        raise


def user_of(name: str | None, holds: Iterable[str] | None) -> UserContext | None:
    """For whom a search is.

    Raises:
        ConfigError: labels without a user.
    """
    if name is None:
        if holds:
            raise ConfigError(
                ReasonCode.OPTION_INVALID,
                "--holds needs --user: labels are those of someone",
                option="holds",
            )
        return None
    return UserContext(name, frozenset(holds or ()))


def rules_of(texts: Iterable[str] | None) -> tuple[LabelRule, ...] | None:
    """Label rules as they are typed, ``PATTERN=LABEL``; None for those of the last time.

    Raises:
        ConfigError: one of them reads otherwise.
    """
    if not texts:
        return None
    rules = []
    for text in texts:
        pattern, equals, label = text.rpartition("=")
        if not (pattern and equals and label):
            raise ConfigError(
                ReasonCode.OPTION_INVALID,
                f"--label is {text!r}; it must be PATTERN=LABEL, such as 'hr/*=hr'",
                option="label",
                value=text,
            )
        rules.append(LabelRule(pattern, frozenset({label})))
    return tuple(rules)


def show_chunks(screen: Screen, chunks: Iterable[RetrievedChunk]) -> None:
    """Each with its place, why it was found, and how it begins."""
    for number, chunk in enumerate(chunks, 1):
        page = "" if chunk.page is None else f", page {chunk.page}"
        screen.line(f"{number}. {chunk.source}{page}, characters {chunk.start}-{chunk.end}", "bold")
        if chunk.heading:
            screen.line(f"   {chunk.heading}", "dim")
        similarity = "" if chunk.similarity is None else f", similarity {chunk.similarity:.2f}"
        screen.line(
            f"   score {chunk.score:.4f}, words {chunk.coverage:.0%}{similarity}"
            f"{'' if chunk.sufficient else ', not good enough for an answer'}",
            "dim",
        )
        screen.line(f"   {_excerpt(chunk.text)}")


def show_sources(screen: Screen, sources: Iterable[Citation], cited: Iterable[Citation]) -> None:
    """The sources of an answer by their marks; those that it does not cite are dim."""
    marks = {citation.mark for citation in cited}
    for source in sources:
        style = "" if source.mark in marks else "dim"
        screen.line(f"[{source.mark}] {source.location}", style)


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _EXCERPT_CHARS else line[:_EXCERPT_CHARS] + "..."
