"""Blocks of the 32-value types whose numbers were worked out by hand from the format."""

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
