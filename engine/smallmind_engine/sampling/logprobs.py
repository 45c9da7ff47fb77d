"""Log-probabilities of what the model said, before any sampling option bends it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from smallmind_engine.sampling.filters import peak_and_log_mass
from smallmind_engine.sampling.selection import as_scores, best_token, highest
from smallmind_engine.telemetry.errors import ConfigError, TokenizerError
from smallmind_engine.telemetry.reasons import ReasonCode


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """What the model gave a token, and what it gave the likeliest ones.

    Attributes:
        token_id: the token in question.
        logprob: its natural log-probability, <= 0; -inf when the model masked it.
        top: the likeliest tokens with their log-probabilities, best first, lower ids first on
            ties. Masked tokens are never among them.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def token_logprob(logits: npt.NDArray[np.float32], token_id: int, n_top: int) -> TokenLogprob:
    """The log-softmax of the raw logits for one token, beside the ``n_top`` likeliest.

    Args:
        logits: the model's own, shape ``(V,)``, before bias, penalties and temperature.
        token_id: the token that was chosen.
        n_top: how many of the likeliest to tell, from 0; no more than there are.

    Raises:
        InferenceError: NaN or +inf among the logits, or all of them are -inf.
        TokenizerError: ``token_id`` is outside the vocabulary.
        ConfigError: ``n_top`` is negative, or ``logits`` is not one row.
    """
    scores = as_scores(logits, np.size(logits))
    if not 0 <= token_id < scores.size:
        raise TokenizerError(
            ReasonCode.TOKENIZER_TOKEN_ID_INVALID,
            f"token id {token_id} is outside the vocabulary, 0..{scores.size - 1}",
            token_id=token_id,
        )
    if n_top < 0:
        raise ConfigError(
            ReasonCode.OPTION_INVALID,
            f"option n_top is {n_top!r}",
            hint="allowed: a whole number >= 0",
            option="n_top",
            value=n_top,
        )
    best_token(scores)
    peak, log_mass = peak_and_log_mass(scores)
    top = highest(scores, n_top)
    best_first = top[np.argsort(-scores[top], kind="stable")].tolist()

    def logprob(token: int) -> float:
        return (float(scores[token]) - peak) - log_mass

    return TokenLogprob(
        token_id=int(token_id),
        logprob=logprob(token_id),
        top=tuple((token, logprob(token)) for token in best_first if scores[token] > -np.inf),
    )
