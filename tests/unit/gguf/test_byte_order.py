"""Blocks of big-endian files are turned round as the `gguf` package's converter does."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.scripts.gguf_convert_endian import byteswap_tensors

from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.gguf import LAYOUTS, QuantType, dequantize, swap_bytes
from smallmind_engine.telemetry.errors import OperationCancelledError, UnsupportedModelError
from smallmind_engine.telemetry.reasons import ReasonCode

WITH_ORDER = sorted(qtype for qtype, layout in LAYOUTS.items() if layout.swapped is not None)
ALL_BYTES = sorted(qtype for qtype, layout in LAYOUTS.items() if layout.swapped == ())


def random_bytes(qtype: QuantType, n_blocks: int) -> np.ndarray:
    rng = np.random.default_rng(int(qtype))
    return rng.integers(0, 256, n_blocks * LAYOUTS[qtype].block_bytes, dtype=np.uint8)


@pytest.mark.parametrize("number", byteswap_tensors, ids=lambda number: number.name)
def test_blocks_are_turned_round_as_the_converter_does(number: GGMLQuantizationType) -> None:
    qtype = QuantType(number)
    data = random_bytes(qtype, 50)
    converted = data.copy()
    for begin in range(0, data.size, LAYOUTS[qtype].block_bytes):
        byteswap_tensors[number](SimpleNamespace(data=converted), begin)

    np.testing.assert_array_equal(swap_bytes(data, qtype), converted)


@pytest.mark.parametrize(("qtype", "scales"), [(QuantType.Q5_0, 1), (QuantType.Q5_1, 2)])
def test_fifth_bits_are_one_word_on_paper(qtype: QuantType, scales: int) -> None:
    """Big-endian machines store the 32 fifth bits as one native word, highest byte first."""
    block = np.ones(scales, ">f2").tobytes() + (1 << 3).to_bytes(4, "big") + bytes(16)

    numbers = dequantize(np.frombuffer(block, np.uint8), qtype, (32,), big_endian=True)

    assert np.flatnonzero(numbers == numbers.max()).tolist() == [3]
    assert numbers[3] - numbers[0] == 16.0


@pytest.mark.parametrize("qtype", WITH_ORDER)
def test_turning_the_bytes_round_twice_gives_them_back(qtype: QuantType) -> None:
    data = random_bytes(qtype, 300)
    once = swap_bytes(data, qtype)
    assert (once != data).any() == (qtype not in ALL_BYTES)
    np.testing.assert_array_equal(swap_bytes(once, qtype), data)


@pytest.mark.parametrize("qtype", WITH_ORDER)
def test_both_byte_orders_give_the_same_numbers(qtype: QuantType) -> None:
    n_blocks = (1 << 17) // LAYOUTS[qtype].block_elements + 1  # more than two pieces
    data = random_bytes(qtype, n_blocks)
    shape = (n_blocks * LAYOUTS[qtype].block_elements,)

    big = dequantize(swap_bytes(data, qtype), qtype, shape, big_endian=True)

    little = dequantize(data, qtype, shape)
    np.testing.assert_array_equal(big.view(np.uint32), little.view(np.uint32))


def test_fields_cover_their_block() -> None:
    for qtype in set(WITH_ORDER) - set(ALL_BYTES):
        fields = LAYOUTS[qtype].swapped or ()
        covered = sum(np.dtype(code).itemsize * count for code, count in fields)
        assert covered == LAYOUTS[qtype].block_bytes, qtype


def test_a_type_without_agreed_byte_order_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedModelError, match="IQ2_XXS has no agreed byte order") as caught:
        dequantize(random_bytes(QuantType.IQ2_XXS, 1), QuantType.IQ2_XXS, (256,), big_endian=True)
    assert caught.value.reason is ReasonCode.GGUF_TYPE_UNKNOWN


def test_big_endian_tensors_are_turned_round_piece_by_piece() -> None:
    n_elements = 1 << 22
    data = random_bytes(QuantType.F32, n_elements)
    out = np.empty(n_elements, np.float32)
    tracemalloc.start()
    try:
        dequantize(data, QuantType.F32, out.shape, out, big_endian=True)
        assert tracemalloc.get_traced_memory()[1] < data.size / 8
    finally:
        tracemalloc.stop()


def test_big_endian_decoding_can_be_stopped() -> None:
    token = CancellationToken()
    token.cancel()
    with pytest.raises(OperationCancelledError):
        dequantize(
            random_bytes(QuantType.Q8_0, 1),
            QuantType.Q8_0,
            (32,),
            limit=WorkLimit(token),
            big_endian=True,
        )
