"""The vocabulary: what a file says about its tokens, checked and brought into one form."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.telemetry.reasons import DegradeReason
from smallmind_engine.tokenizers.byte_level import BYTE_TO_CHAR
from smallmind_engine.tokenizers.diagnostics import TokenizerIssue
from smallmind_engine.tokenizers.indexing import first_places, pieces

SPACE_MARK: Final = "\u2581"
"""How SentencePiece vocabularies write a space."""


class TokenType(IntEnum):
    """What a token is, with the numbers of ``tokenizer.ggml.token_type``."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class TextForm(StrEnum):
    """How the entries of a vocabulary spell their bytes."""

    BYTE_LEVEL = "byte_level"
    """In the byte-level alphabet of GPT-2."""
    SPACE_MARKED = "space_marked"
    """As text, a space being U+2581 and a lone byte ``<0xNN>``."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a model.

    Attributes:
        tokens: entry of each id, as written in the file; an entry that is no text is empty.
        ids: id of each entry; the lowest one when an entry occurs twice.
        types: ``TokenType`` of each id, shape ``(size,)``.
        scores: score of each id, higher is better; None when the file has none.
        form: how entries spell bytes.
    """

    tokens: Sequence[str]
    ids: Mapping[str, int]
    types: npt.NDArray[np.int32]
    scores: Sequence[float] | None
    form: TextForm

    @property
    def size(self) -> int:
        """Number of ids, also those without a token."""
        return len(self.tokens)

    def byte_ids(self) -> list[int | None]:
        """The id that stands for each single byte; None where the vocabulary has none."""
        if self.form is TextForm.BYTE_LEVEL:
            return [self.ids.get(char) for char in BYTE_TO_CHAR]
        found = [self.ids.get(byte_name(byte)) for byte in range(256)]
        # Without a token of its own, an ASCII byte is the character that it encodes.
        return [
            self.ids.get(chr(byte)) if token_id is None and byte < 128 else token_id
            for byte, token_id in enumerate(found)
        ]


def byte_name(byte: int) -> str:
    """How a vocabulary writes a lone byte.

    >>> byte_name(10)
    '<0x0A>'
    """
    return f"<0x{byte:02X}>"


BYTE_NAMES: Final = {byte_name(byte): bytes([byte]) for byte in range(256)}
"""The byte of each ``<0xNN>`` entry."""


def byte_vocabulary(expected_size: int | None) -> Vocabulary:
    """The vocabulary of a model that brings none: ids 0 to 255 are the bytes.

    Args:
        expected_size: rows of the model's embedding; further ids stand for nothing.
    """
    size = 256 if expected_size is None else expected_size
    tokens = list(BYTE_NAMES)[:size]
    named = len(tokens)
    tokens += [""] * (size - named)
    types = np.full(size, TokenType.UNUSED, np.int32)
    types[:named] = TokenType.BYTE
    ids = {token: token_id for token_id, token in enumerate(tokens[:named])}
    return Vocabulary(tokens, ids, types, None, TextForm.SPACE_MARKED)


def read_vocabulary(
    metadata: Mapping[str, object],
    form: TextForm,
    expected_size: int | None,
    issues: list[TokenizerIssue],
    limit: WorkLimit = NO_LIMIT,
) -> Vocabulary | None:
    """Read ``tokenizer.ggml.tokens``, ``.token_type`` and ``.scores``.

    Args:
        metadata: of the file.
        form: how the entries spell bytes.
        expected_size: rows of the model's embedding; None when not known.
        issues: receives what is wrong with the lists.
        limit: stops the work.

    Returns:
        The vocabulary, or None when the file has no token at all.

    Raises:
        OperationCancelledError: the limit was reached.
    """
    raw = as_list(metadata.get("tokenizer.ggml.tokens"))
    if not raw:
        _partial(issues, "tokenizer.ggml.tokens is missing, empty or not a list of strings")
        return None
    tokens = _read_tokens(raw, expected_size, issues, limit)
    if tokens is None:
        return None
    size = len(tokens)
    ids = first_places(tokens, limit)
    # The table knows whether any is empty; to ask the list takes milliseconds.
    has_empty = ids.pop("", None) is not None
    empty = [place for place, token in enumerate(tokens) if not token] if has_empty else []
    repeated = size - len(ids) - len(empty)
    if repeated:
        _partial(issues, f"{repeated} entries of tokenizer.ggml.tokens occur more than once")
    limit.check("building the tokenizer")
    types = _read_types(metadata, tokens, form, min(len(raw), size), issues)
    types[empty] = TokenType.UNUSED
    limit.check("building the tokenizer")
    scores = _read_scores(metadata, size, min(len(raw), size), issues)
    return Vocabulary(tokens, ids, types, scores, form)


def _read_tokens(
    entries: list[object],
    expected_size: int | None,
    issues: list[TokenizerIssue],
    limit: WorkLimit,
) -> list[str] | None:
    # Ids are places in the list: an entry that is no text keeps its place.
    tokens: list[str] = []
    bad = 0
    for piece in pieces(entries, limit):
        if set(map(type, piece)) == {str}:  # takes a fraction of the time that looking at each does
            tokens += cast("Sequence[str]", piece)
        else:
            tokens += [entry if isinstance(entry, str) else "" for entry in piece]
            bad += sum(not isinstance(entry, str) for entry in piece)
    if bad == len(entries):
        _partial(issues, "tokenizer.ggml.tokens holds no string")
        return None
    if bad:
        _partial(issues, f"{bad} of {len(tokens)} entries of tokenizer.ggml.tokens are no strings")
    if expected_size is not None and expected_size != len(tokens):
        _partial(
            issues,
            f"tokenizer.ggml.tokens has {len(tokens)} entries, the model has {expected_size} rows",
        )
        tokens = tokens[:expected_size] + [""] * (expected_size - len(tokens))
    return tokens


def _read_types(
    metadata: Mapping[str, object],
    tokens: list[str],
    form: TextForm,
    listed: int,
    issues: list[TokenizerIssue],
) -> npt.NDArray[np.int32]:
    types = np.full(len(tokens), TokenType.UNUSED, np.int32)
    given = _numbers(metadata.get("tokenizer.ggml.token_type"), np.int32)
    if given is None:
        types[:listed] = TokenType.NORMAL
        if form is TextForm.SPACE_MARKED:
            inferred = [i for i, token in enumerate(tokens) if token in BYTE_NAMES]
            types[inferred] = TokenType.BYTE
    else:
        if given.size < listed:
            _partial(issues, f"tokenizer.ggml.token_type has {given.size} of {listed} entries")
        types[:listed] = TokenType.NORMAL
        count = min(given.size, listed)
        types[:count] = given[:count]
        types[(types < TokenType.UNDEFINED) | (types > TokenType.BYTE)] = TokenType.UNDEFINED
    return types


def _read_scores(
    metadata: Mapping[str, object], size: int, listed: int, issues: list[TokenizerIssue]
) -> Sequence[float] | None:
    given = _numbers(metadata.get("tokenizer.ggml.scores"), np.float32)
    if given is None:
        return None
    if given.size < listed:
        _partial(issues, f"tokenizer.ggml.scores has {given.size} of {listed} entries")
    lowest = float(np.finfo(np.float32).min)
    scores = np.full(size, lowest, np.float32)
    count = min(given.size, listed)
    scores[:count] = given[:count]
    # A score that is no finite number would break comparisons; it ranks first or last instead.
    # An array, since a list of so many floats takes longer to make than all else here.
    return array("f", np.nan_to_num(scores, nan=lowest).tobytes())


def as_list(value: object) -> list[object]:
    """The entries of a metadata array; none when the value is no array."""
    if isinstance(value, np.ndarray):
        return list(value.ravel().tolist())
    return list(value) if isinstance(value, (list, tuple)) else []


def _numbers(value: object, dtype: type[np.int32 | np.float32]) -> npt.NDArray[np.generic] | None:
    """``value`` as a flat array of ``dtype``; None when it is no list of numbers."""
    try:
        numbers = np.asarray(value if isinstance(value, np.ndarray) else as_list(value))
        with np.errstate(all="ignore"):
            return numbers.astype(dtype).ravel() if numbers.size else None
    except (TypeError, ValueError, OverflowError):
        return None


def _partial(issues: list[TokenizerIssue], message: str) -> None:
    issues.append(TokenizerIssue(DegradeReason.TOKENIZER_VOCAB_PARTIAL, message))
