"""Are vectors of texts sound: finite, of length 1, and the same in company as alone?"""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np

from smallmind.validation.outcomes import judged
from smallmind.validation.report import Figure, Outcome
from smallmind.validation.subject import Subject

_TEXTS: Final = (
    "the cat sat on the mat",
    "a kitten is on the rug",
    "it is a long play",
    "prime numbers have exactly two divisors, one and themselves",
    "the",
)
_NORM_LIMIT: Final = 1e-4
_ALONE_LIMIT: Final = 1e-3
_SAME_COSINE: Final = 0.9999
"""Texts that differ and have vectors nearer than this are told apart by rounding alone."""


def check_embeddings(subject: Subject) -> Outcome:
    """Vectors are finite and of length 1, alone as together, and tell texts apart."""
    embed = partial(subject.engine.embed, truncation="end", cancellation=subject.token)
    together = embed(_TEXTS)
    alone = np.concatenate([embed(text).vectors for text in _TEXTS])
    raw = embed(_TEXTS, normalize=False).vectors
    subject.limit.check("validation")
    vectors = together.vectors
    norms = np.linalg.norm(vectors, axis=-1)
    lengths = np.linalg.norm(raw, axis=-1)
    drift = float(np.linalg.norm(vectors - alone, axis=-1).max())
    scaled = float(np.abs(raw / np.maximum(lengths, 1e-30)[:, None] - vectors).max())
    cosines = vectors @ vectors.T
    nearest = float(cosines[~np.eye(len(_TEXTS), dtype=bool)].max())
    bad = int((~np.isfinite(vectors)).sum() + (~np.isfinite(raw)).sum())
    return judged(
        f"{len(_TEXTS)} vectors of {together.dimension} numbers by {together.pooling} pooling;"
        f" alone and together they differ by {drift:.2g}, the nearest two have cosine"
        f" {nearest:.3f}",
        (
            Figure(name="not finite", value=bad, at_most=0),
            Figure(
                name="length off 1", value=float(np.abs(norms - 1.0).max()), at_most=_NORM_LIMIT
            ),
            Figure(name="normalising", value=scaled, at_most=_NORM_LIMIT),
            Figure(name="alone or together", value=drift, at_most=_ALONE_LIMIT),
            Figure(name="nearest cosine", value=nearest, at_most=_SAME_COSINE),
        ),
    )
