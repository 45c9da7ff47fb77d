"""What both engines are asked to do: prompts of given lengths, and greedy steps behind them."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

SMALLMIND = "smallmind"
LLAMA_CPP = "llama.cpp"
ENGINES = (SMALLMIND, LLAMA_CPP)

SEED = 0
DECODE_STEPS = 32


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure: the prompt of each sequence is read, then each is decoded.

    Attributes:
        sequences: decoded side by side. With more than one, only the decoding is measured.
        context: tokens of each sequence's prompt.
        steps: tokens decoded greedily behind each prompt.
    """

    sequences: int
    context: int
    steps: int

    @property
    def name(self) -> str:
        """Identifies the case in samples: ``1x128``."""
        return f"{self.sequences}x{self.context}"

    @property
    def prefill_is_measured(self) -> bool:
        """Whether reading the prompt is part of what is measured."""
        return self.sequences == 1

    @property
    def capacity(self) -> int:
        """Tokens that each sequence comes to."""
        return self.context + self.steps

    def as_json(self) -> dict[str, int]:
        """For a message or a file; ``Case(**...)`` reads it."""
        return asdict(self)


CASES = (
    *(
        Case(1, context, 0 if context == 421 else DECODE_STEPS)
        for context in (16, 128, 421, 512, 2048)
    ),
    Case(4, 128, DECODE_STEPS),
    Case(16, 128, DECODE_STEPS),
)
"""One sequence first, so that its peak of memory can be told from that of many."""

QUICK_CASES = (Case(1, 16, 8), Case(1, 64, 8), Case(4, 16, 8))


def chosen(names: list[str] | None, *, quick: bool) -> tuple[Case, ...]:
    """The cases to run; ``names`` picks some of them."""
    cases = QUICK_CASES if quick else CASES
    unknown = set(names or ()) - {case.name for case in cases}
    if unknown:
        known = ", ".join(case.name for case in cases)
        raise SystemExit(f"no case {', '.join(sorted(unknown))}; known: {known}")
    return tuple(case for case in cases if names is None or case.name in names)


def prompt_ids(sequence: int, tokens: int, vocab_size: int) -> np.ndarray:
    """The prompt of a sequence: random ids, the same for both engines, shape (tokens,) int64."""
    generator = np.random.default_rng((SEED, sequence))
    return generator.integers(0, vocab_size, tokens)
