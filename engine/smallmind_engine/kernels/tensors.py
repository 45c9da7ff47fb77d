"""Names of a model's tensors, and the check that each is there in the right shape."""

from __future__ import annotations

from typing import Final

from smallmind_engine.kernels.spec import WeightSource
from smallmind_engine.telemetry.errors import ModelFileError
from smallmind_engine.telemetry.reasons import ReasonCode

EMBEDDING: Final = "token_embd.weight"
OUTPUT: Final = "output.weight"
POSITIONS: Final = "position_embd.weight"
TOKEN_TYPES: Final = "token_types.weight"  # noqa: S105 - a tensor, no secret
EMBEDDING_NORM: Final = "token_embd_norm.weight"
EMBEDDING_NORM_BIAS: Final = "token_embd_norm.bias"
OUTPUT_NORM: Final = "output_norm.weight"
OUTPUT_NORM_BIAS: Final = "output_norm.bias"


def require(source: WeightSource, name: str, shape: tuple[int, ...]) -> None:
    """Check that a tensor is there and has the shape that the model needs.

    Raises:
        ModelFileError: it is not, or has not.
    """
    if not source.has(name):
        raise ModelFileError(
            ReasonCode.MODEL_TENSOR_MISSING, f"tensor {name!r} is missing", tensor=name
        )
    if source.shape(name) != shape:
        raise ModelFileError(
            ReasonCode.GGUF_TENSOR_SHAPE,
            f"tensor {name!r} has the shape {source.shape(name)}; the model needs {shape}",
            tensor=name,
        )
