"""How sure the model was of a token: numbers of its distribution, without any text."""

# V vocabulary

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from smallmind_engine.sampling.selection import Ids, best_token

_LEAST: Final = np.float32(-87.0)  # exp of less is no normal float32 number; masked tokens end here


class Confidence(NamedTuple):
    """Of the model's own distribution, before bias, penalties and temperature.

    Attributes:
        entropy: in nats, from 0 to the logarithm of V.
        logprob: natural log-probability of the chosen token.
        rank: of the chosen token, 1 for the likeliest.
        margin: probability of the likeliest token less that of the second.
        removed_mass: probability of the tokens that were left out of the draw.
    """

    entropy: float
    logprob: float
    rank: int
    margin: float
    removed_mass: float


class ConfidenceMeter:
    """Measures rows of logits. Belongs to one request; keeps room for two rows.

    Args:
        vocab_size: V.
    """

    __slots__ = ("_powers", "_shifted")

    def __init__(self, vocab_size: int) -> None:
        self._shifted = np.empty(vocab_size, np.float32)
        self._powers = np.empty(vocab_size, np.float32)

    def measure(
        self, logits: npt.NDArray[np.float32], token_id: int, kept: Ids | None = None
    ) -> Confidence:
        """What a row says. Hot path while it is wanted: a few passes of NumPy over the row.

        Args:
            logits: shape ``(V,)``, not modified; -inf masks a token.
            token_id: the one that was chosen.
            kept: ids among which it was drawn; None for a choice without truncation.

        Raises:
            InferenceError: NaN or +inf among the logits, or all of them are -inf.
        """
        best = best_token(logits)
        shifted, powers = self._shifted, self._powers
        np.subtract(logits, logits[best], out=shifted)
        if shifted.min() < _LEAST:  # seldom, and cheaper to ask than to do
            np.maximum(shifted, _LEAST, out=shifted)
        np.exp(shifted, out=powers)
        mass = float(powers.sum())
        log_mass = math.log(mass)
        mean = float(np.dot(powers, shifted)) / mass
        chosen = float(logits[token_id])
        rank = 1 if token_id == best else 1 + int(np.count_nonzero(logits > logits[token_id]))
        removed = 0.0 if kept is None else 1.0 - float(powers[kept].sum(dtype=np.float64)) / mass
        powers[best] = 0.0
        second = float(powers.max()) if powers.size > 1 else 0.0
        return Confidence(
            entropy=max(0.0, log_mass - mean),
            logprob=(chosen - float(logits[best])) - log_mass,
            rank=rank,
            margin=(1.0 - second) / mass,
            removed_mass=max(0.0, removed),
        )
