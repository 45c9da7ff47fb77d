"""A request that is held to a grammar: which tokens may come, and whether the answer is whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from smallmind_engine.grammar import CompiledGrammar
from smallmind_engine.sampling import Allowed
from smallmind_engine.telemetry import Emitter, EventKind, GrammarApplied, StopReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Structured:
    """What became of a ``response_format``.

    Attributes:
        format: its kind, such as ``json_schema``.
        complete: whether the text is whole and of the format. One that was cut short is not,
            however far it got.
        cut_by: why it was cut short; None when it is complete.
        cached: whether its grammar was compiled before.
        compile_s: seconds until the grammar was ready.
        masks: how often the grammar was asked which tokens may follow.
        mask_s: seconds that this took.
    """

    format: str
    complete: bool
    cut_by: StopReason | None
    cached: bool
    compile_s: float
    masks: int
    mask_s: float


class Structure:
    """Holds the answer of one request to its grammar.

    Args:
        grammar: of the request.
        end_ids: tokens that end a text.

    Attributes:
        compile_s: seconds until the grammar was ready.
        allowed: tokens that may come next, shape ``(V,)``.
        exhausted: whether nothing may come but the end.
    """

    __slots__ = (
        "_allowed_tokens",
        "_constraint",
        "_ends",
        "_grammar",
        "_masks",
        "allowed",
        "compile_s",
        "exhausted",
    )

    def __init__(self, grammar: CompiledGrammar, end_ids: frozenset[int]) -> None:
        self._grammar: Final = grammar
        self._constraint: Final = grammar.constraint()
        self._ends: Final = np.array(sorted(end_ids), np.intp)
        self._masks = 0
        self._allowed_tokens = 0
        self.compile_s = 0.0
        self.allowed: Allowed = np.zeros(0, np.bool_)
        self.exhausted = False
        self._ask()

    def accept(self, token_id: int) -> None:
        """Go on with a token that was allowed. Hot path.

        Raises:
            InferenceError: the grammar became too much for the library behind it.
        """
        self._constraint.accept(token_id)
        self._ask()

    def _ask(self) -> None:
        self.allowed = allowed = self._constraint.allowed()
        count = int(np.count_nonzero(allowed))
        self._masks += 1
        self._allowed_tokens += count
        self.exhausted = count == int(np.count_nonzero(allowed[self._ends]))

    def outcome(self, text: str, reason: StopReason, mask_s: float) -> Structured:
        """What came of it.

        Args:
            text: that the reader got.
            reason: why the request stopped.
            mask_s: seconds that masks took.
        """
        # A stop string is left out of the text, and so may be a part of the last token.
        whole = (
            self._grammar.matches(text)
            if reason is StopReason.STOP_SEQUENCE
            else self._constraint.complete
        )
        return Structured(
            format=self._grammar.wanted.kind,
            complete=whole,
            cut_by=None if whole else reason,
            cached=self._grammar.cached,
            compile_s=self.compile_s,
            masks=self._masks,
            mask_s=mask_s,
        )

    def tell(self, emitter: Emitter, model: str, outcome: Structured) -> None:
        """Publish what came of it."""
        if emitter.wants & EventKind.GRAMMAR:
            emitter.publish(
                GrammarApplied(
                    *emitter.header(),
                    model=model,
                    format=outcome.format,
                    complete=outcome.complete,
                    cached=outcome.cached,
                    compile_s=outcome.compile_s,
                    masks=outcome.masks,
                    mask_s=outcome.mask_s,
                    allowed_tokens=self._allowed_tokens,
                    vocab_size=self.allowed.size,
                )
            )
