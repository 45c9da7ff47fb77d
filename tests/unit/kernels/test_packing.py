"""Packed weights: what lies where, byte by byte, and that nothing is lost on the way."""

from __future__ import annotations

import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest

from packed_weights import OWN, aligned_bytes, packed, random_matrix
from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.gguf import LAYOUTS as GGUF_LAYOUTS
from smallmind_engine.gguf import QuantType, dequantize
from smallmind_engine.kernels.packing import (
    IQ4_VALUES,
    LAYOUTS,
    SPLIT_Q8_0,
    PackedLayout,
    layout_of,
    pack_matrix,
    planes,
)
from smallmind_engine.telemetry import OperationCancelledError

RNG_SEED = 11
CONVERTED = [qtype for qtype in GGUF_LAYOUTS if qtype not in OWN]
PLAIN = ["F64", "I8", "I16", "I32", "I64"]


def file_bytes(qtype: QuantType, rows: int, columns: int) -> npt.NDArray[np.uint8]:
    return random_matrix(np.random.default_rng(RNG_SEED), qtype, rows, columns)


# -- nothing is lost ----------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [16, 37])
@pytest.mark.parametrize("qtype", OWN, ids=lambda qtype: qtype.name)
def test_types_with_a_layout_come_back_bit_for_bit(qtype: QuantType, rows: int) -> None:
    data = file_bytes(qtype, rows, 512)
    expected = dequantize(data, qtype, (rows, 512))
    np.testing.assert_array_equal(packed(data, qtype, rows, 512).values, expected)


@pytest.mark.parametrize("qtype", CONVERTED, ids=lambda qtype: qtype.name)
def test_types_without_a_layout_come_back_within_a_step(qtype: QuantType) -> None:
    data = file_bytes(qtype, 21, 512)
    expected = dequantize(data, qtype, (21, 512))
    got = packed(data, qtype, 21, 512).values
    if qtype.name in PLAIN:
        np.testing.assert_array_equal(got, expected)
        return
    by_block = np.abs(expected.reshape(21, -1, 32)).max(-1)
    # Half a step, and what the rounding of the scale to a half, maybe a subnormal one, adds to
    # the largest number.
    allowed = by_block / 127.0 * 0.5 + np.maximum(by_block * 2.0**-11, 127 * 2.0**-25)
    error = np.abs(got - expected).reshape(21, -1, 32).max(-1)
    assert (error <= allowed).all()


def test_plain_numbers_and_odd_widths_become_floats() -> None:
    assert {layout_of(QuantType[name], 64).name for name in PLAIN} == {"F32"}
    assert layout_of(QuantType.MXFP4, 64).name == "Q8_0"
    assert layout_of(QuantType.F16, 5).name == "F16"


def test_every_layout_is_that_of_a_type_or_split_from_one() -> None:
    found = {layout_of(qtype, 256).name for qtype in GGUF_LAYOUTS}
    assert found == {layout.source_type for layout in LAYOUTS.values()}


def test_the_split_form_of_bytes_comes_back_bit_for_bit() -> None:
    data = file_bytes(QuantType.Q8_0, 37, 96)
    expected = dequantize(data, QuantType.Q8_0, (37, 96))
    got = packed(data, QuantType.Q8_0, 37, 96, SPLIT_Q8_0)
    np.testing.assert_array_equal(got.values, expected)


@pytest.mark.parametrize("name", ["F32", "F16", "BF16"])
def test_widths_of_float_matrices_are_free(name: str) -> None:
    data = file_bytes(QuantType[name], 17, 7)
    expected = dequantize(data, QuantType[name], (17, 7))
    np.testing.assert_array_equal(packed(data, QuantType[name], 17, 7).values, expected)


def test_special_floats_keep_their_bits() -> None:
    values = np.array([[np.inf, -np.inf, np.nan, -0.0, 1e-40, 3e38]], np.float32)
    got = packed(values.view(np.uint8).reshape(-1), QuantType.F32, 1, 6).values
    np.testing.assert_array_equal(got.view(np.uint32), values.view(np.uint32))


@pytest.mark.parametrize("name", ["F16", "Q4_0", "Q5_K", "Q6_K", "MXFP4"])
def test_rows_come_in_the_order_asked_for(name: str) -> None:
    qtype = QuantType[name]
    rows, columns = 37, 256
    data = file_bytes(qtype, rows, columns)
    order = np.random.default_rng(3).permutation(rows).astype(np.int64)
    layout = layout_of(qtype, columns)
    out = aligned_bytes(planes(layout, rows, columns).n_bytes, fill=255)
    pack_matrix(data, qtype, layout, rows, columns, out, order=order)
    rearranged = np.ascontiguousarray(data.reshape(rows, -1)[order]).reshape(-1)
    expected = packed(rearranged, qtype, rows, columns)
    np.testing.assert_array_equal(out, expected.packed)


def test_rows_that_fill_up_the_last_group_are_zeros() -> None:
    matrix = packed(file_bytes(QuantType.Q4_1, 3, 64), QuantType.Q4_1, 3, 64)
    where = planes(matrix.layout, 3, 64)
    scales = matrix.packed[where.scales : where.supers].view(np.float16).reshape(-1, 16)
    assert not scales[:, 3:].any()
    low = matrix.packed[where.low : where.high].reshape(-1, 16, 4)
    assert not low[:, 3:].any()


def test_zeros_convert_to_zeros() -> None:
    values = np.zeros(32 * 2, np.float32)
    layout = LAYOUTS["Q8_0"]
    out = aligned_bytes(planes(layout, 2, 32).n_bytes, fill=255)
    pack_matrix(values.view(np.uint8), QuantType.F32, layout, 2, 32, out)
    where = planes(layout, 2, 32)
    assert (out[where.low : where.high].reshape(8, 16, 4)[:, :2] == 128).all()
    assert not out[where.scales : where.scales + 32].any()


def test_numbers_beyond_a_half_scale_are_cut_and_stay_finite() -> None:
    values = np.full(32, 1e9, np.float32)
    layout = LAYOUTS["Q8_0"]
    out = aligned_bytes(planes(layout, 1, 32).n_bytes)
    pack_matrix(values.view(np.uint8), QuantType.F32, layout, 1, 32, out)
    scale = out[planes(layout, 1, 32).scales :].view(np.float16)[0]
    assert scale == np.float16(65504.0)
    assert (out[:4] == 255).all()


# -- what lies where ----------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
@pytest.mark.parametrize(("rows", "columns"), [(1, 256), (16, 256), (37, 768), (100, 1280)])
def test_planes_begin_at_cache_lines_and_lie_one_behind_the_other(
    layout: PackedLayout, rows: int, columns: int
) -> None:
    where = planes(layout, rows, columns)
    places = [where.low, where.high, where.scales, where.supers, where.n_bytes]
    assert places == sorted(places)
    assert [place % 64 for place in places] == [0] * 5
    assert where.groups == -(-rows // 16)


def test_no_plane_is_larger_than_its_numbers_need() -> None:
    """37 rows make 3 groups; 256 columns make 8 blocks or one super-block."""
    q6_k = planes(LAYOUTS["Q6_K"], 37, 256)
    low, high = 24 * 32 * 16 // 2, 24 * 32 * 16 // 4
    assert (q6_k.high, q6_k.scales) == (low, low + high)
    assert q6_k.supers == q6_k.scales + 24 * 2 * 16
    assert q6_k.n_bytes == -(-(q6_k.supers + 3 * 16 * 2) // 64) * 64


def q4_0_block(scale: float, codes: list[int]) -> bytes:
    nibbles = [codes[i] | codes[i + 16] << 4 for i in range(16)]
    return np.float16(scale).tobytes() + bytes(nibbles)


def raw(*blocks: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(b"".join(blocks), np.uint8)


def test_two_codes_share_a_byte_on_paper() -> None:
    """Byte 4 * row + i of vector v: column 8v + i below, column 8v + 4 + i above."""
    codes = [0, 1, 2, 3, 4, 5, 6, 7, *range(8, 16), *range(15, -1, -1)]
    matrix = packed(raw(q4_0_block(0.5, codes), q4_0_block(2.0, [9] * 32)), QuantType.Q4_0, 2, 32)
    vectors = matrix.packed[:256].reshape(4, 16, 4)
    assert vectors[0, 0].tolist() == [0x40, 0x51, 0x62, 0x73]
    assert vectors[1, 0].tolist() == [0xC8, 0xD9, 0xEA, 0xFB]
    assert vectors[2, 0].tolist() == [0xBF, 0xAE, 0x9D, 0x8C]
    assert vectors[3, 0].tolist() == [0x37, 0x26, 0x15, 0x04]
    assert (vectors[:, 1] == 0x99).all()
    scales = matrix.packed[256:288].view(np.float16)
    assert scales.tolist() == [0.5, 2.0] + [0.0] * 14


def test_factors_of_16_rows_come_before_their_offsets_on_paper() -> None:
    row = [np.array([s, -s], np.float16).tobytes() + bytes(16) for s in (1.0, 2.0, 4.0)]
    matrix = packed(raw(*row), QuantType.Q4_1, 3, 32)
    scales = matrix.packed[256:320].view(np.float16).reshape(2, 16)
    assert scales[0, :4].tolist() == [1.0, 2.0, 4.0, 0.0]
    assert scales[1, :4].tolist() == [-1.0, -2.0, -4.0, 0.0]


def test_a_fifth_bit_is_the_bit_of_its_vector_on_paper() -> None:
    """Bit v of byte 4 * row + i: column 4v + i. Columns 0, 5 and 31 have it."""
    bits = (1 << 0 | 1 << 5 | 1 << 31).to_bytes(4, "little")
    matrix = packed(raw(np.float16(1.0).tobytes() + bits + bytes(16)), QuantType.Q5_0, 1, 32)
    high = matrix.packed[256:320].reshape(16, 4)
    assert high[0].tolist() == [1 << 0, 1 << 1, 0, 1 << 7]
    assert not high[1:].any()
    assert not matrix.packed[:256].any()


def test_bytes_lie_as_they_are_with_the_sign_bit_turned_on_paper() -> None:
    codes = np.arange(-16, 16, dtype=np.int8)
    matrix = packed(raw(np.float16(1.0).tobytes() + codes.tobytes()), QuantType.Q8_0, 1, 32)
    vectors = matrix.packed[:512].reshape(8, 16, 4)
    assert vectors[:, 0].reshape(-1).tolist() == list(range(112, 144))


def test_four_codes_share_a_byte_on_paper() -> None:
    """Q2_K with codes c, 2 bits: byte i of vector v has columns 16v + i, + 4, + 8, + 12."""
    block = bytearray(84)
    block[:16] = bytes([0x21] * 16)  # factor 1, offset 2
    quants = np.zeros((2, 32), np.uint8)
    quants[0] = np.arange(32) % 4  # columns 0..31 in the lowest bits of the first 32 bytes
    block[16:80] = quants.tobytes()
    block[80:84] = np.array([1.0, 0.5], np.float16).tobytes()
    matrix = packed(raw(bytes(block)), QuantType.Q2_K, 1, 256)
    first = matrix.packed[:128].reshape(2, 16, 4)[:, 0]
    assert first.tolist() == [[0b00000000, 0b01010101, 0b10101010, 0b11111111]] * 2
    where = planes(matrix.layout, 1, 256)
    scales = matrix.packed[where.scales : where.scales + 64].view(np.int8).reshape(2, 2, 16)
    assert scales[:, :, 0].tolist() == [[1, 2], [1, 2]]
    supers = matrix.packed[where.supers : where.supers + 64].view(np.float16).reshape(2, 16)
    assert supers[:, 0].tolist() == [1.0, -0.5]


def test_two_more_bits_lie_like_two_bits_on_paper() -> None:
    """Q6_K: the upper two bits of columns 0..31 are the lowest of bytes 128..159."""
    block = bytearray(210)
    block[128:160] = bytes([i % 4 for i in range(32)])
    block[192:208] = bytes(range(1, 17))
    block[208:210] = np.float16(0.25).tobytes()
    matrix = packed(raw(bytes(block)), QuantType.Q6_K, 1, 256)
    where = planes(matrix.layout, 1, 256)
    high = matrix.packed[where.high : where.high + 128].reshape(2, 16, 4)[:, 0]
    assert high.tolist() == [[0b00000000, 0b01010101, 0b10101010, 0b11111111]] * 2
    scales = matrix.packed[where.scales : where.supers].view(np.int8).reshape(8, 2, 16)
    assert scales[:, :, 0].reshape(-1).tolist() == list(range(1, 17))
    assert matrix.packed[where.supers :].view(np.float16)[0] == np.float16(0.25)


def test_four_more_bits_lie_like_four_bits_on_paper() -> None:
    """Codes 0x80 + c: the low plane has the lower halves, the high plane the upper ones."""
    codes = np.arange(32, dtype=np.int8) * 4
    data = raw(np.float16(1.0).tobytes() + codes.tobytes())
    matrix = packed(data, QuantType.Q8_0, 1, 32, SPLIT_Q8_0)
    planes_ = matrix.packed[:512].reshape(2, 4, 16, 4)[:, :, 0]
    unsigned = (codes.astype(np.int32) + 128).reshape(4, 2, 4)
    expected = (unsigned[:, 0] & 15) | (unsigned[:, 1] & 15) << 4
    np.testing.assert_array_equal(planes_[0], expected)
    expected = (unsigned[:, 0] >> 4) | (unsigned[:, 1] >> 4) << 4
    np.testing.assert_array_equal(planes_[1], expected)


def test_codes_of_a_table_stay_codes_on_paper() -> None:
    codes = [*range(16), *range(16)]
    matrix = packed(raw(q4_0_block(1.0, codes)), QuantType.IQ4_NL, 1, 32)
    assert matrix.packed[:4].tolist() == [0x40, 0x51, 0x62, 0x73]
    assert matrix.values[0].tolist() == [*IQ4_VALUES, *IQ4_VALUES]


@pytest.mark.parametrize(("name", "kind"), [("F32", "<u4"), ("F16", "<u2"), ("BF16", "<u2")])
def test_floats_of_16_rows_lie_side_by_side(name: str, kind: str) -> None:
    data = file_bytes(QuantType[name], 20, 5)
    matrix = packed(data, QuantType[name], 20, 5)
    items = data.view(kind).reshape(20, 5)
    got = matrix.packed[: 2 * 5 * 16 * items.itemsize].view(kind).reshape(2, 5, 16)
    np.testing.assert_array_equal(got[0], items[:16].T)
    np.testing.assert_array_equal(got[1, :, :4], items[16:].T)
    assert not got[1, :, 4:].any()


# -- while it is done ---------------------------------------------------------------------------

ROWS, COLUMNS = 4096, 512  # four tiles


def test_packing_can_be_cancelled_between_tiles() -> None:
    token, seen = CancellationToken(), []

    def told(done: int) -> None:
        seen.append(done)
        if len(seen) == 2:
            token.cancel()

    layout = LAYOUTS["Q8_0"]
    data = np.zeros(ROWS * COLUMNS // 32 * 34, np.uint8)
    out = aligned_bytes(planes(layout, ROWS, COLUMNS).n_bytes)
    with pytest.raises(OperationCancelledError):
        pack_matrix(
            data,
            QuantType.Q8_0,
            layout,
            ROWS,
            COLUMNS,
            out,
            limit=WorkLimit(token=token),
            on_bytes=told,
        )
    assert len(seen) == 2


def test_progress_tells_the_bytes_of_the_file_that_are_done() -> None:
    seen: list[int] = []
    layout = LAYOUTS["Q4_0"]
    data = np.zeros(ROWS * COLUMNS // 32 * 18, np.uint8)
    out = aligned_bytes(planes(layout, ROWS, COLUMNS).n_bytes)
    pack_matrix(data, QuantType.Q4_0, layout, ROWS, COLUMNS, out, on_bytes=seen.append)
    assert seen == sorted(set(seen))
    assert len(seen) > 1
    assert seen[-1] == data.nbytes


@pytest.mark.parametrize("name", ["Q8_0", "Q4_K", "Q6_K", "F16", "MXFP4"])
def test_memory_in_between_does_not_grow_with_the_matrix(name: str) -> None:
    """A matrix of 32 million numbers needs no more than one of a tile does."""
    qtype, rows, columns = QuantType[name], 8192, 4096
    layout = layout_of(qtype, columns)
    form = GGUF_LAYOUTS[qtype]
    data = np.zeros(rows * columns // form.block_elements * form.block_bytes, np.uint8)
    out = aligned_bytes(planes(layout, rows, columns).n_bytes)
    tracemalloc.start()
    try:
        pack_matrix(data, qtype, layout, rows, columns, out)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32e6
