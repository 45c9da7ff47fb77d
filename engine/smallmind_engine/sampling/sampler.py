"""The sampler: from one row of logits to one token id."""

from __future__ import annotations

import operator
import secrets
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from smallmind_engine.sampling.constraint import Allowed
from smallmind_engine.sampling.filters import (
    draw,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    keep_typical,
)
from smallmind_engine.sampling.options import SamplingOptions
from smallmind_engine.sampling.penalties import SeenTokens, add_bias, penalize
from smallmind_engine.sampling.selection import Ids, Scores, as_scores, best_token
from smallmind_engine.telemetry.errors import ConfigError, TokenizerError
from smallmind_engine.telemetry.reasons import ReasonCode

_DRAWN_SEED_LIMIT: Final = 2**53  # drawn seeds survive JSON readers that know only doubles


class Sampler:
    """Chooses the tokens of one request; see ``SamplingOptions`` for what it does, in which order.

    Each sampled token takes exactly one uniform number from a PCG64 generator, whatever the
    options; a greedy one takes none. Not thread-safe: one request, one sampler.

    Args:
        options: how to choose.
        vocab_size: V, the number of scores in each row of logits.
        history: token ids before the first one sampled, oldest first (the prompt); the penalties
            count them.
        rng: where the seed is drawn from when ``options`` has none; the operating system's
            entropy without it.

    Attributes:
        options: as given.
        vocab_size: as given.
        seed: the one in use. The same options with this seed give the same tokens.
        kept: ids among which the last token was drawn; None when nothing was left out.

    Raises:
        ConfigError: ``vocab_size`` is not positive, or a biased token is outside the vocabulary.
        TokenizerError: an id of ``history`` is outside the vocabulary.
    """

    def __init__(
        self,
        options: SamplingOptions,
        vocab_size: int,
        *,
        history: Sequence[int] = (),
        rng: np.random.Generator | None = None,
    ) -> None:
        self.options = options
        self.vocab_size = _positive(vocab_size)
        self.seed = _seed(options, rng)
        self.kept: Ids | None = None
        self._uniform = np.random.Generator(np.random.PCG64(self.seed)).random
        bias = options.logit_bias or {}
        self._bias_ids = np.fromiter(bias.keys(), np.intp, len(bias))
        self._biases = np.fromiter(bias.values(), np.float64, len(bias))
        if (self._bias_ids >= self.vocab_size).any():
            raise ConfigError(
                ReasonCode.OPTION_INVALID,
                f"option logit_bias names token {self._bias_ids.max()}, "
                f"but the vocabulary ends at {self.vocab_size - 1}",
                option="logit_bias",
                value=int(self._bias_ids.max()),
            )
        self._seen = SeenTokens(options.penalty_window)
        for token_id in history:
            self.accept(token_id)

    @property
    def takes_best(self) -> bool:
        """Whether it always takes the highest of the logits as they are."""
        options = self.options
        return options.temperature == 0.0 and not (self._bias_ids.size or options.penalizes)

    def sample(self, logits: npt.NDArray[np.float32], allowed: Allowed | None = None) -> int:
        """The id of the next token. Hot path: no loop over the vocabulary in Python.

        Args:
            logits: shape ``(V,)``, float32, not modified; -inf masks a token.
            allowed: shape ``(V,)``, the tokens to choose from; None for all.

        Raises:
            InferenceError: NaN or +inf among the logits, or no token left to choose from.
            ConfigError: ``logits`` has another shape.
        """
        options = self.options
        scores = as_scores(logits, self.vocab_size)
        best = best_token(scores)
        if self._bias_ids.size or options.penalizes:
            scores = self._adjusted(scores)
            best = best_token(scores)
        ids: Ids | None = None
        if allowed is not None and not (allowed[best] and options.temperature == 0.0):
            ids = np.flatnonzero(allowed)
            scores = scores[ids]
            best = int(ids[best_token(scores)])
        if options.temperature == 0.0:
            return best
        candidates = keep_top_k(scores, options.top_k)
        if ids is not None:
            candidates = candidates._replace(ids=ids[candidates.ids])
        candidates = keep_typical(candidates, options.typical_p)
        candidates = keep_top_p(candidates, options.top_p)
        candidates = keep_min_p(candidates, options.min_p)
        self.kept = candidates.ids
        return draw(candidates, options.temperature, self._uniform())

    def accept(self, token_id: int) -> None:
        """Count ``token_id`` as seen, so that the penalties know it. ``sample`` does not.

        Raises:
            TokenizerError: the id is outside the vocabulary.
        """
        token_id = operator.index(token_id)
        if not 0 <= token_id < self.vocab_size:
            raise TokenizerError(
                ReasonCode.TOKENIZER_TOKEN_ID_INVALID,
                f"token id {token_id} is outside the vocabulary, 0..{self.vocab_size - 1}",
                token_id=token_id,
            )
        if self.options.penalizes:
            self._seen.add(token_id)

    def _adjusted(self, scores: Scores) -> Scores:
        adjusted = scores.copy()
        add_bias(adjusted, self._bias_ids, self._biases)
        if self.options.penalizes:
            penalize(adjusted, *self._seen.counts(), self.options)
        return adjusted


def _positive(vocab_size: int) -> int:
    if vocab_size < 1:
        raise ConfigError(
            ReasonCode.OPTION_INVALID,
            f"option vocab_size is {vocab_size!r}",
            hint="allowed: a whole number >= 1",
            option="vocab_size",
            value=vocab_size,
        )
    return vocab_size


def _seed(options: SamplingOptions, rng: np.random.Generator | None) -> int:
    if options.seed is not None:
        return options.seed
    if rng is not None:
        return int(rng.integers(_DRAWN_SEED_LIMIT))
    return secrets.randbelow(_DRAWN_SEED_LIMIT)
