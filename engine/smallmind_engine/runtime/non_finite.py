"""Where NaN or infinity first appeared, when a model gives no finite scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from smallmind_engine.model import LoadedModel
from smallmind_engine.telemetry.errors import InferenceError, SmallMindError
from smallmind_engine.telemetry.reasons import ReasonCode

MOST_TOKENS: Final = 256
"""Of longer sequences the last tokens are looked at: a damaged weight shows with any."""


def locate_non_finite(error: InferenceError, model: LoadedModel, token_ids: Sequence[int]) -> str:
    """Run the tokens once more, layer by layer, and say where the damage begins.

    Only after an error: it takes as long as computing the tokens anew, in a cache of its own.

    Args:
        error: gets ``details["first_at"]``, and words about it in its message.
        model: that computed.
        token_ids: what it computed, the last one included.

    Returns:
        ``embedding``, ``layer 7`` or ``output``; empty for another error, or when it was not found.
    """
    if error.reason is not ReasonCode.NON_FINITE_LOGITS:
        return ""
    ids = np.array(token_ids[-MOST_TOKENS:], np.int64)
    try:
        where = model.runner.find_non_finite(ids)
    except (SmallMindError, MemoryError):  # the error that there is says enough
        return ""
    if where:
        error.details["first_at"] = where
        error.args = (f"{error.args[0]}; values that are not finite begin at: {where}",)
    return where
