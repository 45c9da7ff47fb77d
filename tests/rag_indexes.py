"""Small indexes for tests of retrieval."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from smallmind.rag import HashingEmbedder, RagIndex, TextDocument, TextSource

LIBRARY: Mapping[str, str] = {
    "bees.md": "# Bees\n\nBees live in hives. A queen lays the eggs. Workers gather nectar.",
    "tides.md": "# Tides\n\nTides follow the moon. Spring tides come at full moon and new moon.",
    "bread.md": "# Bread\n\nDough rises because yeast makes gas. Bake the loaf until it is brown.",
}


def open_index(folder: Path, **options: object) -> RagIndex:
    """An index with vectors by hashing; ``options`` are those of ``RagIndex``."""
    return RagIndex(folder / "index.db", **{"embedder": HashingEmbedder(64), **options})


def texts(documents: Mapping[str, str] = LIBRARY, **labels: Iterable[str]) -> TextSource:
    """Documents by source; ``labels`` by the source without its ending."""
    return TextSource(
        TextDocument(source, text, frozenset(labels.get(source.partition(".")[0], ())))
        for source, text in documents.items()
    )


def rows_of(index: RagIndex) -> list[tuple[object, ...]]:
    """All chunks with their documents and vectors, without the numbers of their rows."""
    connection = sqlite3.connect(index.path)
    try:
        return sorted(
            connection.execute(
                "SELECT collection, source, content_hash, char_start, char_end, chunks.text, vector"
                " FROM chunks JOIN documents ON documents.id = chunks.document"
            )
        )
    finally:
        connection.close()


def check_integrity(index: RagIndex) -> None:
    """SQLite's own checks: of the file, of its references, and of the words against the chunks."""
    connection = sqlite3.connect(index.path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        connection.execute(
            "INSERT INTO chunk_words (chunk_words, rank) VALUES ('integrity-check', 1)"
        )
    finally:
        connection.close()
