"""The numbers of a model that its kernels read."""

from __future__ import annotations

from typing import Final

import numpy as np

from smallmind_engine.kernels.numba_backend.records import Constant
from smallmind_engine.kernels.spec import FloatArray, TransformerSpec

_NO_CAP: Final = 0.0


def constants_of(spec: TransformerSpec) -> FloatArray:
    """The constants, each at its index in ``Constant``."""
    constants = np.zeros(len(Constant), np.float32)
    constants[Constant.NORM_EPS] = spec.norm_eps
    constants[Constant.ATTENTION_SCALE] = spec.attention_scale
    constants[Constant.ATTENTION_CAP] = spec.attention_softcap or _NO_CAP
    constants[Constant.LOGIT_CAP] = spec.logit_softcap or _NO_CAP
    constants[Constant.EMBEDDING_SCALE] = spec.embedding_scale
    return constants
