"""llguidance behind our own small interface; imported where a request asks for a grammar."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from smallmind_engine.sampling import Allowed
from smallmind_engine.telemetry.errors import InferenceError, MissingExtraError
from smallmind_engine.telemetry.reasons import ReasonCode
from smallmind_engine.tokenizers import Tokenizer

EXTRA: Final = "structured"

_WORD_BITS: Final = 32
_PLACE_IN_LARK: Final = re.compile(r"^at \d+\(\d+\): (failed to compile JSON schema: )?")
_MOST_ITEMS: Final = 20_000
_MOST_ITEMS_OF_STEP: Final = 200_000  # about 10 ms
_LONGEST_MESSAGE: Final = 400
_CONTROL_MARK: Final = b"\xff"
"""Begins the name of a token that is no text; no UTF-8 has this byte."""


class Library:
    """A tokenizer's tokens in the form in which llguidance looks them up. Thread-safe.

    Args:
        tokenizer: of the model.

    Raises:
        MissingExtraError: llguidance is not installed.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        try:
            import llguidance
        except ImportError as error:
            raise MissingExtraError(EXTRA, "structured output") from error
        self._matcher: Any = llguidance.LLMatcher
        # A thousand options at once are no mistake; what they may take of a step stays bounded.
        self._limits: Any = llguidance.LLParserLimits(
            max_items_in_row=_MOST_ITEMS, step_max_items=_MOST_ITEMS_OF_STEP, verbose_errors=False
        )
        self._size: Final = tokenizer.vocab_size
        tokens = _Tokens(tokenizer)
        self._known: Final = len(tokens.tokens)
        self._tokens: Any = llguidance.LLTokenizer(
            tokens,  # type: ignore[arg-type]  # it needs these attributes, no class
            n_vocab=self._known,
            eos_token=tokens.ends,
        )

    def compiled(self, lark: str) -> Any:
        """A matcher at the beginning of a grammar's texts; to be copied, not used.

        Raises:
            ValueError: llguidance refuses the grammar, in its own words.
        """
        matcher = self._matcher(
            self._tokens, self._matcher.grammar_from_lark(lark), log_level=0, limits=self._limits
        )
        if matcher.is_error():
            raise ValueError(_first_lines(matcher.get_error()))
        return matcher

    def constraint(self, compiled: Any) -> LlguidanceConstraint:
        """A text of its own to be held to the grammar."""
        return LlguidanceConstraint(compiled.deep_copy(), self._size, self._known)

    def matches(self, compiled: Any, text: str) -> bool:
        """Whether a text is whole and of the grammar, however it is cut into tokens."""
        matcher = compiled.deep_copy()
        ids = self._tokens.greedy_tokenize(text)
        return bool(matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting())


class LlguidanceConstraint:
    """See ``Constraint``.

    Args:
        matcher: its own.
        size: of the vocabulary, V.
        known: tokens that llguidance knows; see ``_Tokens``.
    """

    __slots__ = ("_address", "_mask_bytes", "_matcher", "_octets", "_size")

    def __init__(self, matcher: Any, size: int, known: int) -> None:
        self._matcher = matcher
        self._size = size
        words: npt.NDArray[np.uint32] = np.zeros(-(-known // _WORD_BITS), "<u4")
        self._octets: Final = words.view(np.uint8)
        self._mask_bytes: Final = words.nbytes
        self._address: Final = int(words.ctypes.data)

    def allowed(self) -> Allowed:
        """See ``Constraint.allowed``. Hot path."""
        self._matcher.unsafe_compute_mask_ptr(self._address, self._mask_bytes)
        self._check()
        return np.unpackbits(self._octets, count=self._size, bitorder="little").view(np.bool_)

    def accept(self, token_id: int) -> None:
        """See ``Constraint.accept``. Hot path."""
        if not self._matcher.consume_token(token_id):
            self._check()

    @property
    def complete(self) -> bool:
        """See ``Constraint.complete``."""
        return bool(self._matcher.is_accepting())

    def _check(self) -> None:
        if not self._matcher.is_error():
            return
        said = _first_lines(self._matcher.get_error())
        if said.startswith("NoExtension"):
            raise InferenceError(
                ReasonCode.GRAMMAR_FAILED,
                "no token of the model's vocabulary goes on with what the grammar asks for",
                hint="leave characters out that the model cannot write",
            )
        raise InferenceError(
            ReasonCode.GRAMMAR_FAILED,
            f"the grammar could not be followed: {said}",
            hint="make it simpler: fewer options at once, and shorter repetitions",
        )


class _Tokens:
    """What ``LLTokenizer`` wants to know of a tokenizer.

    Tokens without text, such as control tokens, get names that no text can hold, and so do those
    that end a text: they are never part of one.
    """

    is_tokenizer_wrapper: Final = True

    def __init__(self, tokenizer: Tokenizer) -> None:
        size, ends = tokenizer.vocab_size, tokenizer.eog_ids
        self.tokens: Final = [
            (b"" if number in ends else tokenizer.token_bytes(number, skip_special=True))
            or _CONTROL_MARK + b"<%d>" % number
            for number in range(size)
        ]
        self.ends: Final = sorted(ends)
        if not ends:  # llguidance needs one: it gets one that the model does not have
            self.tokens.append(_CONTROL_MARK + b"<end>")
            self.ends.append(size)
        self.eos_token_id: Final = self.ends[0]
        self.bos_token_id: Final = tokenizer.bos_id
        self.special_token_ids: Final[list[int]] = []

    def __call__(self, text: object) -> list[int]:  # pragma: no cover - by `no_forcing`
        raise NotImplementedError


def _first_lines(message: str) -> str:
    """What llguidance says, without the grammar and the traces that follow it."""
    message = _PLACE_IN_LARK.sub("", message)
    lines = (line.strip() for line in message.splitlines() if line.strip())
    said = []
    for line in lines:
        if line.startswith(("<", "|")) or line[:1].isdigit():
            break
        said.append(line)
    return (" ".join(said) or message)[:_LONGEST_MESSAGE]
