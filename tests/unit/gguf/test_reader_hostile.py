"""The reader on hostile files: a clear error with the place, soon, and from little memory."""

from __future__ import annotations

import struct
import time
import tracemalloc
from pathlib import Path

import pytest

from gguf_files import Key, Tensor, all_types_keys, gguf_bytes, text
from gguf_mutations import SOMEWHERE, excess_bytes
from smallmind_engine.control import NO_LIMIT
from smallmind_engine.gguf import GgufFile, Header, read_header
from smallmind_engine.telemetry.errors import GgufFormatError
from smallmind_engine.telemetry.reasons import ReasonCode

HUGE = [2**31, 2**32 - 1, 2**61, 2**63 - 1, 2**63, 2**64 - 1]
"""Counts that no small file can hold; from 2**63 on negative ones, if they were signed."""

KEYS_AT = 24
"""Where the first key begins; without keys, the tensor table."""


def read(content: bytes) -> Header:
    return read_header(content, SOMEWHERE, NO_LIMIT)


def refused(content: bytes, reason: ReasonCode, offset: int | None = None) -> GgufFormatError:
    with pytest.raises(GgufFormatError) as caught:
        read(content)
    error = caught.value
    assert error.reason is reason
    assert offset is None or error.details["offset"] == offset
    assert f"model.gguf: at byte {error.details['offset']}" in str(error).replace("mutant", "model")
    assert error.details["path"] == SOMEWHERE
    return error


# -- the first bytes ---------------------------------------------------------------------------


@pytest.mark.parametrize("magic", [b"GGML", b"gguf", b"FUGG", b"PK\3\4", bytes(4)])
def test_another_magic_is_refused(magic: bytes) -> None:
    error = refused(gguf_bytes(magic=magic), ReasonCode.GGUF_NOT_GGUF, 0)

    assert repr(magic) in str(error)


@pytest.mark.parametrize("version", [0, 1, 4, 2**31, 2**32 - 1])
@pytest.mark.parametrize("order", ["<", ">"])
def test_other_versions_are_refused(version: int, order: str) -> None:
    refused(gguf_bytes(version=version, order=order), ReasonCode.GGUF_VERSION_UNSUPPORTED, 4)


@pytest.mark.parametrize("count", HUGE)
def test_counts_of_tensors_that_cannot_be_there_are_refused(count: int) -> None:
    refused(gguf_bytes(n_tensors=count), ReasonCode.GGUF_VALUE_OUT_OF_RANGE, 8)


@pytest.mark.parametrize("count", HUGE)
def test_counts_of_keys_that_cannot_be_there_are_refused(count: int) -> None:
    refused(gguf_bytes(n_keys=count), ReasonCode.GGUF_VALUE_OUT_OF_RANGE, 16)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_file_cut_off_at_any_byte_is_refused(order: str) -> None:
    content = gguf_bytes(all_types_keys(), [Tensor("a"), Tensor("b", (2, 2))], order=order)
    end = len(content) - 16  # the last tensor is followed by padding

    for length in range(end):
        with pytest.raises(GgufFormatError) as caught:
            read(content[:length])
        assert 0 <= caught.value.details["offset"] <= length
    read(content[:end])


def test_a_file_cut_off_at_any_byte_is_refused_from_disk_too(tmp_path: Path) -> None:
    content = gguf_bytes([("words", "[str]", ["a", "bc"])], [Tensor("w")])[:-16]
    path = tmp_path / "model.gguf"

    for length in range(1, len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(GgufFormatError):
            GgufFile.open(path)


# -- metadata ----------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [100, *HUGE])
def test_a_key_longer_than_the_file_is_refused(length: int) -> None:
    content = bytearray(gguf_bytes([("key", "u8", 1)]))
    struct.pack_into("<Q", content, KEYS_AT, length)

    refused(bytes(content), ReasonCode.GGUF_VALUE_OUT_OF_RANGE, KEYS_AT)


@pytest.mark.parametrize("length", [100, *HUGE])
def test_a_string_longer_than_the_file_is_refused(length: int) -> None:
    content = bytearray(gguf_bytes([("key", "str", "value")]))
    struct.pack_into("<Q", content, KEYS_AT + 15, length)

    refused(bytes(content), ReasonCode.GGUF_VALUE_OUT_OF_RANGE, KEYS_AT + 15)


@pytest.mark.parametrize("length", [100, *HUGE])
def test_a_string_in_a_list_longer_than_the_file_is_refused(length: int) -> None:
    content = bytearray(gguf_bytes([("key", "[str]", ["ab", "value"])]))
    at = content.index(text("value"))
    struct.pack_into("<Q", content, at, length)

    error = refused(bytes(content), ReasonCode.GGUF_TRUNCATED, at + 8)

    assert "string 1 of 'key'" in str(error)


def test_a_list_of_strings_that_ends_within_a_length_is_refused() -> None:
    content = gguf_bytes([("key", "[str]", ["0123456789"] * 3)])[:-15]

    error = refused(content, ReasonCode.GGUF_TRUNCATED)

    assert "the length of string 2 of 'key'" in str(error)


@pytest.mark.parametrize("count", HUGE)
@pytest.mark.parametrize("kind", ["[u8]", "[f64]", "[bool]", "[str]", "[[u8]]"])
def test_arrays_longer_than_the_file_are_refused(kind: str, count: int) -> None:
    content = bytearray(gguf_bytes([("key", kind, ())]) + bytes(100))
    struct.pack_into("<Q", content, KEYS_AT + 19, count)

    refused(bytes(content), ReasonCode.GGUF_VALUE_OUT_OF_RANGE, KEYS_AT + 19)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("u32", 0),
        ("u32", 24),
        ("u32", 2**31),
        ("i32", -32),
        ("u64", 2**63),
        ("bool", 1),
        ("str", "32"),
        ("f32", 32.0),
        ("[u32]", [32]),
    ],
)
def test_an_alignment_that_is_no_power_of_two_is_refused(kind: str, value: object) -> None:
    keys: list[Key] = [("a", "u8", 1), ("general.alignment", kind, value)]

    refused(gguf_bytes(keys), ReasonCode.GGUF_METADATA_INVALID, KEYS_AT + 14)


# -- tensors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dims",
    [
        (0,),
        (4, 0),
        (),
        (1, 1, 1, 1, 1),
    ],
)
def test_impossible_shapes_are_refused(dims: tuple[int, ...]) -> None:
    content = gguf_bytes([], [Tensor("w", dims)]) + bytes(64)

    refused(content, ReasonCode.GGUF_TENSOR_SHAPE, KEYS_AT + 9)


@pytest.mark.parametrize("rank", [5, 2**16, 2**32 - 1])
def test_a_rank_above_four_is_refused_before_dimensions_are_read(rank: int) -> None:
    content = bytearray(gguf_bytes([], [Tensor("w")]))
    struct.pack_into("<I", content, KEYS_AT + 9, rank)

    refused(bytes(content), ReasonCode.GGUF_TENSOR_SHAPE, KEYS_AT + 9)


@pytest.mark.parametrize(
    "dims",
    [
        (2**64 - 1,) * 4,
        (2**32, 2**32),
        (2**63, 2),
        (2**62, 4),
        (5,),
        (2, 3),
    ],
)
def test_tensors_that_do_not_fit_the_file_are_refused(dims: tuple[int, ...]) -> None:
    content = gguf_bytes([], [Tensor("w", dims)])[:-16]

    refused(content, ReasonCode.GGUF_TENSOR_OUT_OF_FILE, KEYS_AT)


@pytest.mark.parametrize("offset", [32, 2**63, 2**64 - 32])
def test_tensors_that_begin_behind_the_file_are_refused(offset: int) -> None:
    content = gguf_bytes([], [Tensor("w", offset=offset)])

    refused(content, ReasonCode.GGUF_TENSOR_OUT_OF_FILE, KEYS_AT)


@pytest.mark.parametrize("offset", [1, 16, 2**64 - 1])
def test_tensors_off_the_alignment_are_refused(offset: int) -> None:
    content = gguf_bytes([], [Tensor("w", offset=offset)]) + bytes(64)

    refused(content, ReasonCode.GGUF_TENSOR_MISALIGNED, KEYS_AT)


def test_rows_that_are_no_whole_blocks_are_refused() -> None:
    content = gguf_bytes([], [Tensor("w", (48, 2), 8, bytes(102))])

    error = refused(content, ReasonCode.GGUF_TENSOR_SHAPE, KEYS_AT)

    assert "Q8_0 needs multiples of 32" in str(error)


@pytest.mark.parametrize("number", [4, 5, 99, 2**31, 2**32 - 1])
def test_an_unknown_tensor_type_is_refused_with_tensor_and_type(number: int) -> None:
    content = gguf_bytes([], [Tensor("w", qtype=number)])

    error = refused(content, ReasonCode.GGUF_TYPE_UNKNOWN, KEYS_AT + 21)

    assert (error.details["tensor"], error.details["value"]) == ("w", number)
    assert f"'w' has the type {number}" in str(error)


def test_a_type_without_big_endian_form_is_refused_in_big_endian_files_only() -> None:
    tensors = [Tensor("w", (256,), 16, bytes(66))]

    error = refused(gguf_bytes([], tensors, order=">"), ReasonCode.GGUF_TYPE_UNKNOWN, KEYS_AT + 21)

    assert "'w' has the type IQ2_XXS" in str(error)
    assert "IQ2_XXS" not in str(error).partition("known: ")[2]
    assert read(gguf_bytes([], tensors)).tensors["w"].n_elements == 256


def test_a_tensor_that_stands_there_twice_is_refused() -> None:
    content = gguf_bytes([], [Tensor("w"), Tensor("w")])

    refused(content, ReasonCode.GGUF_DUPLICATE_NAME, KEYS_AT + 33)


@pytest.mark.parametrize("offsets", [(0, 0), (32, 0), (0, 32)])
def test_overlapping_tensors_are_refused(offsets: tuple[int, int]) -> None:
    tensors = [
        Tensor(name, (16,), data=bytes(64), offset=offset)
        for name, offset in zip("ab", offsets, strict=True)
    ]

    refused(gguf_bytes([], tensors), ReasonCode.GGUF_TENSOR_OVERLAP)


def test_a_tensor_with_a_name_longer_than_any_is_refused() -> None:
    refused(gguf_bytes([], [Tensor("w" * 65536)]), ReasonCode.GGUF_VALUE_OUT_OF_RANGE, KEYS_AT)


# -- cost --------------------------------------------------------------------------------------

N = 20_000
WASTEFUL = {
    "short keys": [(f"{index}", "u64", 2**60 + index) for index in range(N)],
    "strings of two odd bytes": [("a", "[str]", [b"\xff\xfe"] * N)],
    "empty arrays in an array": [("a", "[[u8]]", [()] * N)],
    "small arrays in an array": [("a", "[[u64]]", [(2**60,)] * N)],
    "arrays in arrays": [("a", "[[[[[[str]]]]]]", [[[[[()]]]]] * (N // 4))],
    "one string of odd bytes": [("a", "str", b"\xff" * 10**6)],
    "one string that becomes wide": [("a", "str", "a" * 10**6 + "🙂")],
    "one long array": [("a", "[u64]", range(N))],
    "a duplicate of a long key": [(b"\xff" * 60_000, "u8", 1)] * 2,
}


@pytest.mark.parametrize("keys", WASTEFUL.values(), ids=WASTEFUL)
def test_memory_stays_within_a_small_factor_of_the_file(keys: list[Key]) -> None:
    assert excess_bytes(gguf_bytes(keys)) <= 0


def test_memory_of_many_tensors_stays_within_a_small_factor_of_the_file() -> None:
    tensors = [Tensor(f"{index}", (1,), 24, b"x") for index in range(5000)]

    assert excess_bytes(gguf_bytes([("general.alignment", "u8", 1)], tensors, alignment=1)) <= 0


@pytest.mark.parametrize("count", HUGE)
def test_a_huge_count_costs_nothing(count: int) -> None:
    content = bytearray(gguf_bytes([("key", "[u64]", ())]) + bytes(1000))
    struct.pack_into("<Q", content, KEYS_AT + 19, count)
    frozen = bytes(content)
    tracemalloc.start()
    try:
        begin = time.process_time()
        refused(frozen, ReasonCode.GGUF_VALUE_OUT_OF_RANGE)
        assert time.process_time() - begin < 1.0
        assert tracemalloc.get_traced_memory()[1] < 256 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "content",
    [
        gguf_bytes([(b"\xff" * 60_000, "u8", 1)] * 2),
        gguf_bytes([("general.alignment", "str", "x" * 10**6)]),
        gguf_bytes([], [Tensor(b"\xff" * 60_000, offset=1)]),
    ],
)
def test_messages_about_huge_names_and_values_are_short(content: bytes) -> None:
    with pytest.raises(GgufFormatError) as caught:
        read(content)

    assert len(str(caught.value)) < 1000
