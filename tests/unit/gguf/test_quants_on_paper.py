"""Blocks whose numbers were worked out by hand from the format."""

from __future__ import annotations

import numpy as np
import pytest

from smallmind_engine.gguf import QuantType, dequantize

NIBBLES = bytes([0x31, *[0x80] * 15])
"""Value 0 has code 1 and value 16 code 3; of the others, the first half is 0, the second 8."""
FIRST_AND_LAST_FIFTH_BIT = (1 | 1 << 31).to_bytes(4, "little")


def f16(*numbers: float) -> bytes:
    return np.array(numbers, "<f2").tobytes()


@pytest.mark.parametrize(
    ("qtype", "block", "expected"),
    [
        # scale 0.5, zero at 8: (1 - 8) / 2, (0 - 8) / 2, (3 - 8) / 2, (8 - 8) / 2
        (QuantType.Q4_0, f16(0.5) + NIBBLES, (-3.5, -4.0, -2.5, 0.0, 0.0)),
        # scale 2, minimum -1: 2 * 1 - 1, -1, 2 * 3 - 1, 2 * 8 - 1
        (QuantType.Q4_1, f16(2.0, -1.0) + NIBBLES, (1.0, -1.0, 5.0, 15.0, 15.0)),
        # scale 0.5, zero at 16, the first and the last code have 16 added
        (
            QuantType.Q5_0,
            f16(0.5) + FIRST_AND_LAST_FIFTH_BIT + NIBBLES,
            (0.5, -8.0, -6.5, -4.0, 4.0),
        ),
        (
            QuantType.Q5_1,
            f16(2.0, -1.0) + FIRST_AND_LAST_FIFTH_BIT + NIBBLES,
            (33.0, -1.0, 5.0, 15.0, 47.0),
        ),
    ],
)
def test_a_block_decodes_as_on_paper(
    qtype: QuantType, block: bytes, expected: tuple[float, ...]
) -> None:
    values = dequantize(np.frombuffer(block, np.uint8), qtype, (32,))
    assert tuple(values[[0, 1, 16, 17, 31]].tolist()) == expected
    assert set(values[1:16].tolist()) == {expected[1]}
    assert set(values[17:31].tolist()) == {expected[3]}


def test_q5_0_bits_belong_to_their_values() -> None:
    """With code 0 everywhere, value k is -16 without its bit and 0 with it."""
    for k in range(32):
        block = f16(1.0) + (1 << k).to_bytes(4, "little") + bytes(16)
        values = dequantize(np.frombuffer(block, np.uint8), QuantType.Q5_0, (32,))
        assert np.flatnonzero(values == 0.0).tolist() == [k]


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


def test_q1_0_block_on_paper() -> None:
    """Scale 0.5; only the numbers 0, 9 and 127 have their bit, lowest bit first."""
    bits = (1 | 1 << 9 | 1 << 127).to_bytes(16, "little")
    numbers = dequantize(np.frombuffer(f16(0.5) + bits, np.uint8), QuantType.Q1_0, (128,))
    assert set(numbers.tolist()) == {-0.5, 0.5}
    assert np.flatnonzero(numbers > 0).tolist() == [0, 9, 127]


def test_q2_0_block_on_paper() -> None:
    """Scale 2; the byte 0b11_10_01_00 holds -1, 0, 1 and 2 from its lowest bits up, times 2."""
    block = f16(2.0) + bytes([0b11_10_01_00] * 16)
    numbers = dequantize(np.frombuffer(block, np.uint8), QuantType.Q2_0, (64,))
    assert numbers.tolist() == [-2.0, 0.0, 2.0, 4.0] * 16
