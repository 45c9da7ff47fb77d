"""Cuts a text into chunks of whole sentences that overlap, measured in tokens."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from smallmind.rag._documents import Chunk, ExtractedText, Section
from smallmind.rag._sentences import sentences
from smallmind.rag._tokens import TokenCounter
from smallmind_engine.control import WorkLimit
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import ConfigError

SMALLEST_CHUNK: Final = 16
"""Tokens; a smaller one could not hold every character, which may take several tokens."""
_CHARS_PER_TOKEN: Final = 8
"""Of a window that is sure to hold a chunk, and is soon counted."""
_SENTENCES_BETWEEN_CHECKS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkingOptions:
    """How texts are cut.

    Attributes:
        max_tokens: of a chunk; at least 16.
        overlap_tokens: of a chunk that the next one repeats at most; whole sentences only.
        min_tokens: sections with fewer are joined with the next one.
    """

    max_tokens: int = 256
    overlap_tokens: int = 32
    min_tokens: int = 24

    def __post_init__(self) -> None:
        """Check the values."""
        for name, least, most in (
            ("max_tokens", SMALLEST_CHUNK, None),
            ("overlap_tokens", 0, self.max_tokens // 2),
            ("min_tokens", 0, self.max_tokens),
        ):
            value = getattr(self, name)
            if value < least or (most is not None and value > most):
                allowed = f"at least {least}" + ("" if most is None else f" and at most {most}")
                raise ConfigError(
                    ReasonCode.OPTION_INVALID,
                    f"{name} is {value}; it must be {allowed}",
                    option=name,
                    value=value,
                    allowed=allowed,
                )

    @property
    def identity(self) -> str:
        """Changes with whatever changes the chunks."""
        return f"sentences-v1:{self.max_tokens}:{self.overlap_tokens}:{self.min_tokens}"


@dataclass(frozen=True, slots=True)
class _Piece:
    """A sentence, or a part of a very long one."""

    start: int
    end: int
    tokens: int


def chunks_of(
    document: ExtractedText, options: ChunkingOptions, count: TokenCounter, limit: WorkLimit
) -> Iterator[Chunk]:
    """The chunks of a document, in order.

    All characters but white space are in a chunk. No chunk counts more than ``max_tokens``, and
    none crosses from one section into the next, unless the section is very short.

    Raises:
        OperationCancelledError: the limit was reached.
    """
    text = document.text
    for section in _joined(document, options, count):
        pieces = list(_pieces(text, section, options, count, limit))
        for first, last in _packed(text, pieces, options, count):
            start, end = pieces[first].start, pieces[last - 1].end
            content = text[start:end]
            page = bisect_right(document.page_starts, start) or None
            yield Chunk(start, end, content, section.heading, count(content), page)


def _joined(
    document: ExtractedText, options: ChunkingOptions, count: TokenCounter
) -> Iterator[Section]:
    """Sections, the short ones together with what follows them."""
    held: Section | None = None
    for section in document.sections:
        merged = section
        if held is not None:
            merged = Section(held.start, section.end, held.heading or section.heading)
        content = document.text[merged.start : merged.end]
        if (
            len(content) < options.min_tokens * _CHARS_PER_TOKEN
            and count(content) < options.min_tokens
        ):
            held = merged
            continue
        held = None
        yield merged
    if held is not None:
        yield held


def _pieces(
    text: str, section: Section, options: ChunkingOptions, count: TokenCounter, limit: WorkLimit
) -> Iterator[_Piece]:
    for number, (start, end) in enumerate(sentences(text, section.start, section.end)):
        if number % _SENTENCES_BETWEEN_CHECKS == 0:
            limit.check("chunking")
        if end - start <= options.max_tokens * _CHARS_PER_TOKEN:
            tokens = count(text[start:end])
            if tokens <= options.max_tokens:
                yield _Piece(start, end, tokens)
                continue
        yield from _cut(text, start, end, options.max_tokens, count, limit)


def _cut(
    text: str, start: int, end: int, most: int, count: TokenCounter, limit: WorkLimit
) -> Iterator[_Piece]:
    """Parts of a sentence that is longer than a chunk; between words where there are any."""
    while start < end:
        limit.check("chunking")
        window = min(end, start + most * _CHARS_PER_TOKEN)
        fits, too_long = start + 1, window + 1
        while too_long - fits > 1:  # the longest beginning that fits, by bisection
            middle = (fits + too_long) // 2
            if count(text[start:middle]) <= most:
                fits = middle
            else:
                too_long = middle
        stop = fits
        if stop < end:
            space = max(text.rfind(" ", start, stop), text.rfind("\n", start, stop))
            stop = space if space > start else stop
        piece = text[start:stop]
        kept = len(piece.rstrip())
        if kept:
            yield _Piece(start, start + kept, count(piece[:kept]))
        start = stop
        while start < end and text[start].isspace():
            start += 1


def _packed(
    text: str, pieces: list[_Piece], options: ChunkingOptions, count: TokenCounter
) -> Iterator[tuple[int, int]]:
    """Ranges of pieces that make a chunk each."""
    most = options.max_tokens
    first = 0
    while first < len(pieces):
        last, total = first, 0
        while last < len(pieces) and total + pieces[last].tokens <= most:
            total += pieces[last].tokens
            last += 1
        # Sentences may count more together than one by one: the white space between them.
        while last > first + 1 and count(text[pieces[first].start : pieces[last - 1].end]) > most:
            last -= 1
        yield first, last
        if last == len(pieces):
            return
        first = _overlap(pieces, first, last, options)


def _overlap(pieces: list[_Piece], first: int, last: int, options: ChunkingOptions) -> int:
    """Where the next chunk begins: sentences before ``last`` that may be repeated, if any."""
    begin, repeated = last, 0
    while begin - 1 > first and repeated + pieces[begin - 1].tokens <= options.overlap_tokens:
        begin -= 1
        repeated += pieces[begin].tokens
    # The next chunk has to bring something new, so the next sentence must fit beside them.
    while begin < last and repeated + pieces[last].tokens > options.max_tokens:
        repeated -= pieces[begin].tokens
        begin += 1
    return begin
