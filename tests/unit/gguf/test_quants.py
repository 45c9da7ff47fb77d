"""Every type decodes bit for bit as the `gguf` package does."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize as oracle

from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.gguf import LAYOUTS, QuantType, dequantize
from smallmind_engine.telemetry.errors import ConfigError, ModelFileError, OperationCancelledError

N_BLOCKS = 300
PLAIN = {
    QuantType.I8: np.int8,
    QuantType.I16: np.int16,
    QuantType.I32: np.int32,
    QuantType.I64: np.int64,
    QuantType.F64: np.float64,
}
WITHOUT_ORACLE = {QuantType.Q8_1, QuantType.Q8_K, QuantType.Q1_0, QuantType.Q2_0, *PLAIN}


def random_blocks(qtype: QuantType, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (N_BLOCKS, LAYOUTS[qtype].block_bytes), dtype=np.uint8)


def decode(qtype: QuantType, blocks: np.ndarray) -> np.ndarray:
    shape = (len(blocks), LAYOUTS[qtype].block_elements)
    return dequantize(blocks.reshape(-1), qtype, shape)


def test_every_type_that_the_oracle_decodes_is_in_the_table() -> None:
    def decodes(qtype: GGMLQuantizationType) -> bool:
        try:
            oracle(np.zeros((1, GGML_QUANT_SIZES[qtype][1]), np.uint8), qtype)
        except NotImplementedError:
            return False
        return True

    decodable = {int(qtype) for qtype in GGMLQuantizationType if decodes(qtype)}
    assert decodable <= {int(qtype) for qtype in LAYOUTS}


@pytest.mark.parametrize("qtype", sorted(set(LAYOUTS) & set(GGML_QUANT_SIZES) - {QuantType.Q8_1}))
def test_block_sizes_are_those_of_the_format(qtype: QuantType) -> None:
    # The `gguf` package has 40 bytes for Q8_1; ggml's struct, which no file uses, has 36.
    layout = LAYOUTS[qtype]
    expected = GGML_QUANT_SIZES[GGMLQuantizationType(qtype)]
    assert (layout.block_elements, layout.block_bytes) == expected


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("qtype", sorted(set(LAYOUTS) - WITHOUT_ORACLE))
def test_random_blocks_decode_bit_for_bit(qtype: QuantType, seed: int) -> None:
    blocks = random_blocks(qtype, seed)
    with np.errstate(all="ignore"):
        expected = np.asarray(oracle(blocks, GGMLQuantizationType(qtype)), np.float32)
    got = decode(qtype, blocks)
    expected = expected.reshape(got.shape)
    same = got.view(np.uint32) == expected.view(np.uint32)
    assert (same | (np.isnan(got) & np.isnan(expected))).all()


@pytest.mark.parametrize(("qtype", "dtype"), PLAIN.items())
def test_plain_numbers_become_float32(qtype: QuantType, dtype: type) -> None:
    values = np.array([[-3], [0], [7], [100]], dtype)
    assert decode(qtype, values.view(np.uint8)).tolist() == [[-3.0], [0.0], [7.0], [100.0]]


def test_the_result_goes_into_the_array_that_was_given() -> None:
    blocks = random_blocks(QuantType.Q4_K, 7)
    whole = np.full((N_BLOCKS + 2, 256), 7.0, np.float32)
    given = whole[1:-1]
    answered = dequantize(blocks.reshape(-1), QuantType.Q4_K, given.shape, given)
    assert answered is given
    assert (whole[0] == 7.0).all()
    assert (whole[-1] == 7.0).all()
    np.testing.assert_array_equal(given, decode(QuantType.Q4_K, blocks))


@pytest.mark.parametrize("shape", [(31,), (64,), (2, 32)])
def test_bytes_that_do_not_fit_the_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelFileError, match="Q8_0"):
        dequantize(np.zeros(34, np.uint8), QuantType.Q8_0, shape)


@pytest.mark.parametrize(
    "out",
    [np.zeros((2, 100), np.float32)[:, :64], np.zeros((2, 64)), np.zeros((4, 32), np.float32)],
    ids=["not contiguous", "float64", "another shape"],
)
def test_an_array_that_cannot_take_the_result_is_refused(out: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="out is"):
        dequantize(np.zeros(4 * 34, np.uint8), QuantType.Q8_0, (2, 64), out)


def test_decoding_can_be_stopped() -> None:
    token = CancellationToken()
    token.cancel()
    with pytest.raises(OperationCancelledError):
        dequantize(np.zeros(34, np.uint8), QuantType.Q8_0, (32,), limit=WorkLimit(token))
