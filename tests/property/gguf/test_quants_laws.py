"""Laws of decoding: packed real weights agree with the `gguf` package, and rows stand alone."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf import quants as oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from smallmind_engine.gguf import LAYOUTS, QuantType, dequantize


def _packs(qtype: QuantType) -> bool:
    number = GGMLQuantizationType(qtype)
    try:
        oracle.quantize(np.zeros((1, GGML_QUANT_SIZES[number][0]), np.float32), number)
    except NotImplementedError:
        return False
    return qtype not in {QuantType.F32, QuantType.F16}


PACKED = sorted(qtype for qtype in LAYOUTS if qtype in set(GGMLQuantizationType) and _packs(qtype))


def test_the_package_packs_the_types_of_the_models_here() -> None:
    assert {QuantType.Q4_0, QuantType.Q4_1, QuantType.Q5_0, QuantType.Q8_0} <= set(PACKED)


@pytest.mark.parametrize("qtype", PACKED)
@settings(derandomize=True, deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), spread=st.floats(1e-3, 100.0), rows=st.integers(1, 5))
def test_packed_weights_decode_bit_for_bit(
    qtype: QuantType, seed: int, spread: float, rows: int
) -> None:
    weights = np.random.default_rng(seed).normal(0.0, spread, (rows, 512)).astype(np.float32)
    number = GGMLQuantizationType(qtype)
    with np.errstate(all="ignore"):
        packed = oracle.quantize(weights, number)
        expected = oracle.dequantize(packed, number)
    decoded = dequantize(packed.view(np.uint8).reshape(-1), qtype, weights.shape)
    np.testing.assert_array_equal(decoded.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("qtype", sorted(LAYOUTS))
@settings(derandomize=True, deadline=None, max_examples=5)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1, 39))
def test_a_tensor_decodes_as_its_parts_do(qtype: QuantType, seed: int, cut: int) -> None:
    layout = LAYOUTS[qtype]
    # More than a chunk of any type, so that the cut and the chunks lie differently.
    n_blocks = 40 * max(1, 4096 // layout.block_elements)
    data = np.random.default_rng(seed).integers(0, 256, n_blocks * layout.block_bytes, np.uint8)
    at = cut * n_blocks // 40
    whole = dequantize(data, qtype, (n_blocks * layout.block_elements,))
    parts = [
        dequantize(part, qtype, (part.size // layout.block_bytes * layout.block_elements,))
        for part in np.split(data, [at * layout.block_bytes])
    ]
    np.testing.assert_array_equal(np.concatenate(parts).view(np.uint32), whole.view(np.uint32))
