"""Every type decodes bit for bit as the `gguf` package does, and on paper."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize as oracle

from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.gguf import LAYOUTS, QuantType, dequantize, swap_bytes
from smallmind_engine.telemetry.errors import ConfigError, ModelFileError, OperationCancelledError

N_BLOCKS = 300
PLAIN = {
    QuantType.I8: np.int8,
    QuantType.I16: np.int16,
    QuantType.I32: np.int32,
    QuantType.I64: np.int64,
    QuantType.F64: np.float64,
}
WITHOUT_ORACLE = {QuantType.Q8_1, QuantType.Q8_K, *PLAIN}


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


@pytest.mark.parametrize("qtype", sorted(set(LAYOUTS) - {QuantType.Q8_1}))
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


def test_q8_0_block_on_paper() -> None:
    """Scale 0.5 and quants -2, 0, 6 give -1, 0, 3 (rest zero)."""
    block = np.float16(0.5).tobytes() + bytes(np.array([-2, 0, 6] + [0] * 29, np.int8))
    numbers = dequantize(np.frombuffer(block, np.uint8), QuantType.Q8_0, (32,))
    assert numbers[:3].tolist() == [-1.0, 0.0, 3.0]
    assert not numbers[3:].any()


def test_q4_1_block_on_paper() -> None:
    """Scale 2, offset -1: byte 0x31 holds number 0 (1 -> 1) and number 16 (3 -> 5)."""
    block = np.array([2.0, -1.0], np.float16).tobytes() + bytes([0x31] + [0] * 15)
    numbers = dequantize(np.frombuffer(block, np.uint8), QuantType.Q4_1, (32,))
    assert (numbers[0], numbers[16], numbers[1]) == (1.0, 5.0, -1.0)


def test_q8_k_block_on_paper() -> None:
    """A float32 scale, 256 signed bytes, 16 sums that do not count."""
    quants = np.arange(-128, 128).astype(np.int8)
    block = np.float32(0.25).tobytes() + quants.tobytes() + b"\xff" * 32
    numbers = dequantize(np.frombuffer(block, np.uint8), QuantType.Q8_K, (256,))
    assert numbers.tolist() == (np.arange(-128, 128) / 4).tolist()


def test_q8_1_block_on_paper() -> None:
    block = np.array([0.5, 9.0], np.float16).tobytes() + bytes(np.arange(32, dtype=np.int8))
    numbers = dequantize(np.frombuffer(block, np.uint8), QuantType.Q8_1, (32,))
    assert numbers.tolist() == (np.arange(32) / 2).tolist()


@pytest.mark.parametrize("qtype", sorted(set(LAYOUTS) - {QuantType.MXFP4, QuantType.NVFP4}))
def test_turning_the_bytes_round_twice_gives_them_back(qtype: QuantType) -> None:
    data = random_blocks(qtype, 5).reshape(-1)
    once = swap_bytes(data, qtype)
    assert LAYOUTS[qtype].block_bytes == 1 or (once != data).any()
    np.testing.assert_array_equal(swap_bytes(once, qtype), data)


def test_the_fields_of_a_block_cover_it() -> None:
    for qtype, layout in LAYOUTS.items():
        covered = sum(np.dtype(code).itemsize * count for code, count in layout.swapped)
        assert covered in {0, layout.block_bytes}, qtype


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
