"""Rotation speeds of the rotary embedding, with the ways of stretching them to long contexts."""

# R rotated pairs

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from smallmind_engine.kernels import RopeTable, WeightSource
from smallmind_engine.model.hyperparameters import Hyperparameters
from smallmind_engine.telemetry.errors import GgufFormatError, UnsupportedModelError
from smallmind_engine.telemetry.reasons import ReasonCode

DEFAULT_BASE: Final = 10_000.0
_LLAMA3_FACTORS: Final = "rope_freqs.weight"
_LONG_FACTORS: Final = "rope_factors_long.weight"
_SHORT_FACTORS: Final = "rope_factors_short.weight"
_SCALINGS: Final = ("none", "linear", "yarn", "longrope")

Speeds = npt.NDArray[np.float64]


def rope_table(
    hyper: Hyperparameters, source: WeightSource, n_dims: int, context_length: int
) -> RopeTable:
    """The speeds of a model's (global) layers.

    Args:
        hyper: the model's metadata.
        source: may have tensors with factors for each pair (Llama 3, LongRoPE).
        n_dims: rotated dimensions of a head, 2R.
        context_length: positions that will be used; LongRoPE has two sets of factors.

    Raises:
        UnsupportedModelError: an unknown way of scaling.
        GgufFormatError: factors of the wrong number, or parameters that give no finite speeds.
    """
    base = rope_base(hyper, "rope.freq_base", DEFAULT_BASE)
    speeds = plain_speeds(base, n_dims)
    scaling = hyper.text("rope.scaling.type", "none")
    if scaling not in _SCALINGS:
        raise UnsupportedModelError(
            ReasonCode.MODEL_ARCHITECTURE_UNSUPPORTED,
            f"rope scaling {scaling!r} is not supported; known: {', '.join(_SCALINGS)}",
            scaling=scaling,
        )
    factor = hyper.number("rope.scaling.factor", hyper.number("rope.scale_linear", 1.0))
    original = hyper.integer("rope.scaling.original_context_length", context_length)
    magnitude = hyper.number("rope.scaling.attn_factor", 1.0)
    if scaling == "yarn" and factor > 0.0:
        speeds, magnitude = yarn(
            speeds,
            base=base,
            factor=factor,
            original_context=hyper.size("rope.scaling.original_context_length", context_length),
            beta_fast=hyper.positive("rope.scaling.yarn_beta_fast", 32.0),
            beta_slow=hyper.positive("rope.scaling.yarn_beta_slow", 1.0),
            magnitude=magnitude,
        )
    elif factor > 0.0:
        speeds = _divided(speeds, factor)
    long = _LONG_FACTORS if context_length > original else _SHORT_FACTORS
    for name in (_LLAMA3_FACTORS, long):
        if source.has(name):
            speeds = _divided(speeds, _factors(source, name, len(speeds)))
    if not (np.isfinite(speeds).all() and math.isfinite(magnitude)):
        raise GgufFormatError(
            ReasonCode.GGUF_METADATA_INVALID,
            f"the {hyper.key('rope')} keys give rotation speeds that are not finite",
            key=hyper.key("rope.scaling.factor"),
            value=factor,
        )
    return RopeTable(tuple(speeds.tolist()), magnitude)


def rope_base(hyper: Hyperparameters, name: str, default: float) -> float:
    """The base of the rotation speeds; above 1, so that speeds fall from pair to pair.

    Raises:
        GgufFormatError: it is something else.
    """
    base = hyper.number(name, default)
    if base <= 1.0:
        raise GgufFormatError(
            ReasonCode.GGUF_METADATA_INVALID,
            f"{hyper.key(name)} is {base}; it must be more than 1",
            key=hyper.key(name),
            value=base,
        )
    return base


def _divided(speeds: Speeds, by: float | Speeds) -> Speeds:
    with np.errstate(over="ignore"):  # the caller looks at whether all is finite
        return speeds / by


def plain_speeds(base: float, n_dims: int) -> Speeds:
    """``base ** (-2 i / n_dims)`` for each pair i.

    Source: Su et al. 2021, section 3.2.2 (arXiv:2104.09864).
    """
    return np.asarray(base ** (-np.arange(0, n_dims, 2, dtype=np.float64) / n_dims))


def yarn(
    speeds: Speeds,
    *,
    base: float,
    factor: float,
    original_context: int,
    beta_fast: float,
    beta_slow: float,
    magnitude: float,
) -> tuple[Speeds, float]:
    """Slow down the pairs that do not turn fully within the original context.

    Args:
        speeds: radians a position, shape (R,).
        base: they were made with.
        factor: how much longer the context becomes.
        original_context: positions of the training.
        beta_fast: pairs with more turns than this keep their speed.
        beta_slow: pairs with fewer turns are slowed by the whole factor; in between, mixed.
        magnitude: factor on sine and cosine before the correction for entropy.

    Returns:
        The new speeds, and the new magnitude.

    Source: Peng et al. 2023, eq. 18-23 (arXiv:2309.00071).
    """
    n_pairs = len(speeds)
    n_dims = 2 * n_pairs

    def pair_with_turns(turns: float) -> float:
        # The logarithm of a quotient, as a difference: no quotient that can overflow.
        log_ratio = math.log(original_context) - math.log(turns) - math.log(2.0 * math.pi)
        return n_dims * log_ratio / (2.0 * math.log(base))

    low = max(0.0, math.floor(pair_with_turns(beta_fast)))
    high = min(n_dims - 1.0, math.ceil(pair_with_turns(beta_slow)))
    ramp = (np.arange(n_pairs) - low) / max(0.001, high - low)
    keep = 1.0 - np.clip(ramp, 0.0, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):  # rope_table refuses what is not finite
        mixed = speeds / factor * (1.0 - keep) + speeds * keep
    return mixed, magnitude * (1.0 + 0.1 * math.log(factor))


def _factors(source: WeightSource, name: str, n_pairs: int) -> Speeds:
    factors = source.floats(name).ravel().astype(np.float64)
    if len(factors) != n_pairs or not (factors > 0.0).all():
        raise GgufFormatError(
            ReasonCode.GGUF_TENSOR_SHAPE,
            f"tensor {name!r} holds {len(factors)} values; the model needs {n_pairs} positive ones",
            tensor=name,
        )
    return factors
