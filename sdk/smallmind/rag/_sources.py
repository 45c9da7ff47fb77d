"""Where documents come from: folders, and texts that a program has."""

from __future__ import annotations

import contextlib
import functools
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from smallmind.rag._documents import SourceDocument
from smallmind.rag._errors import DocumentError
from smallmind.rag._extraction import EXTRACTORS, extractor_of
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import ConfigError


class FolderSource:
    """The documents in a folder and the folders below it, by the ends of their names.

    Hidden files and folders are left out, and symbolic links are not followed, so that nothing
    from outside gets in. A document's source is its path within the folder, with slashes.

    Args:
        folder: where they are.
        suffixes: ends of names, in lower case; all that can be read when None.
        collection: name of the collection; the folder's full path when None.

    Raises:
        ConfigError: there is no such folder.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        suffixes: Collection[str] | None = None,
        collection: str | None = None,
    ) -> None:
        self._folder = Path(folder).resolve()
        if not self._folder.is_dir():
            raise ConfigError(
                ReasonCode.OPTION_INVALID,
                f"{str(folder)!r} is no folder",
                option="folder",
                value=str(folder),
            )
        self._wanted = frozenset(EXTRACTORS if suffixes is None else suffixes)
        self._collection = collection or str(self._folder)

    @property
    def collection(self) -> str:
        """The folder's full path, or the name it was given."""
        return self._collection

    def documents(self) -> Iterator[SourceDocument]:
        """All of them, by path."""
        for path in _files_below(self._folder):
            if path.suffix.casefold() in self._wanted:
                source = path.relative_to(self._folder).as_posix()
                with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                    size = path.stat().st_size
                    yield SourceDocument(source, path.read_bytes, size_bytes=size)


def _files_below(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        # To go on without it would delete from the index what is in it.
        raise DocumentError(
            ReasonCode.RAG_SOURCE_UNREADABLE,
            f"the folder {str(folder)!r} cannot be read: {error}",
            hint="make it readable, or index the folders that are",
            source=str(folder),
        ) from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files_below(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path)


@dataclass(frozen=True, slots=True)
class TextDocument:
    """A text that a program has.

    Attributes:
        source: its name; the end of it tells the format, as in ``notes.md``.
        text: the document itself.
        labels: what a user must hold to see it; empty for a public one.
    """

    source: str
    text: str
    labels: frozenset[str] = frozenset()


class TextSource:
    """Texts that a program has, as a collection.

    Args:
        documents: all of them; those that an earlier one gave and this one does not are deleted.
        collection: name of the collection.

    Raises:
        ConfigError: two have the same source.
    """

    def __init__(self, documents: Iterable[TextDocument], *, collection: str = "texts") -> None:
        self._documents = tuple(documents)
        self._collection = collection
        twice = [s for s, n in Counter(d.source for d in self._documents).items() if n > 1]
        if twice:
            raise ConfigError(
                ReasonCode.OPTION_INVALID,
                f"two documents have the source {twice[0]!r}; each needs one of its own",
                option="documents",
                value=twice[0],
            )

    @property
    def collection(self) -> str:
        """The name it was given."""
        return self._collection

    def documents(self) -> Iterator[SourceDocument]:
        """All of them, in the order they were given."""
        for document in self._documents:
            data = document.text.encode("utf-8", "replace")
            source = document.source
            if extractor_of(source, EXTRACTORS) is None:
                source += ".txt"
            read = functools.partial(bytes, data)
            yield SourceDocument(source, read, frozenset(document.labels), len(data))
