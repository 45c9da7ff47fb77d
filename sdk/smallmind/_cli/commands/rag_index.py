"""``smallmind rag index``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smallmind._cli.exit_codes import ExitCode
from smallmind._cli.interrupts import interruptible
from smallmind._cli.json_documents import emit
from smallmind._cli.parameters import AsJson
from smallmind._cli.progress import Bars
from smallmind._cli.rag_parts import (
    DEFAULT_INDEX,
    EmbedderName,
    Index,
    embedder_named,
    rules_of,
)
from smallmind._cli.screen import Screen
from smallmind.rag import ChunkingOptions, FolderSource, IndexReport, RagIndex

_DEFAULTS = ChunkingOptions()


def rag_index(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="the folder with the documents")],
    *,
    index: Index = DEFAULT_INDEX,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="PATTERN=LABEL",
            help="only users who hold LABEL see documents whose path matches; may be given again",
            show_default="those of the last time",
        ),
    ] = None,
    embedder: EmbedderName = "hashing",
    chunk_tokens: Annotated[
        int, typer.Option("--chunk-tokens", help="tokens of a chunk at most")
    ] = _DEFAULTS.max_tokens,
    overlap_tokens: Annotated[
        int, typer.Option("--overlap-tokens", help="tokens that neighbours share at most")
    ] = _DEFAULTS.overlap_tokens,
    as_json: AsJson = False,
) -> ExitCode:
    """Index the text, Markdown, HTML and PDF files of a folder: what is new, changed or gone.

    It may be interrupted at any moment; the next run goes on from there. Exits with 1 when a
    document could not be read.
    """
    screen = Screen.open()
    chunking = ChunkingOptions(
        max_tokens=chunk_tokens,
        overlap_tokens=overlap_tokens,
        min_tokens=min(_DEFAULTS.min_tokens, chunk_tokens),
    )
    source = FolderSource(folder)
    rules = rules_of(label)
    with (
        interruptible() as token,
        embedder_named(screen, embedder, token) as made,
        RagIndex(index, embedder=made, chunking=chunking) as opened,
        Bars(screen) as bars,
    ):
        report = opened.update(
            source,
            label_rules=rules,
            cancellation=token,
            on_progress=lambda p: bars.update("documents", p.documents, p.total_documents),
        )
        counts = opened.counts()
    if as_json:
        emit({"index": str(index), "report": report, "counts": counts})
    else:
        screen.line(_summary(report))
        screen.line(f"{index}: {counts.documents} documents, {counts.chunks} chunks")
    for failure in report.failed:
        screen.note(f"{failure.source}: {failure.message}", "red")
    return ExitCode.FAILED if report.failed else ExitCode.OK


def _summary(report: IndexReport) -> str:
    return (
        f"{report.added} added, {report.updated} updated, {report.deleted} deleted,"
        f" {report.unchanged} unchanged, {len(report.failed)} failed;"
        f" {report.chunks} chunks in {report.duration_s:.1f} s"
    )
