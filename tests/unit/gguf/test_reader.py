"""The reader on sound files: what others write is read as they read it."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from gguf_files import QUANTISED, Tensor, gguf_bytes, write_valid, written
from smallmind_engine.control import NO_LIMIT
from smallmind_engine.gguf import GgufFile, read_header
from smallmind_engine.telemetry.errors import (
    ConfigError,
    ModelFileError,
)
from smallmind_engine.telemetry.reasons import ReasonCode

SOMEWHERE = Path("model.gguf")


# -- against the gguf package ------------------------------------------------------------------


def theirs(reader: gguf.GGUFReader) -> dict[str, object]:
    fields = {key: field.contents() for key, field in reader.fields.items()}
    return {key: value for key, value in fields.items() if not key.startswith("GGUF.")}


def plain(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray) else value


def assert_read_alike(path: Path) -> None:
    reader = gguf.GGUFReader(path)
    with GgufFile.open(path) as file:
        assert {key: plain(value) for key, value in file.metadata.items()} == theirs(reader)
        assert list(file.tensors) == [tensor.name for tensor in reader.tensors]
        for tensor in reader.tensors:
            info = file.tensors[tensor.name]
            assert info.shape == tuple(reversed(tensor.shape.tolist()))
            assert (int(info.qtype), info.byte_start) == (tensor.tensor_type, tensor.data_offset)
            assert (info.n_bytes, info.n_elements) == (tensor.n_bytes, tensor.n_elements)
            assert file.data(tensor.name).tobytes() == tensor.data.tobytes()


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("alignment", [None, 8, 64, 4096])
def test_a_written_file_is_read_as_the_gguf_package_reads_it(
    tmp_path: Path, *, big_endian: bool, alignment: int | None
) -> None:
    path = tmp_path / "model.gguf"

    write_valid(path, big_endian=big_endian, alignment=alignment)

    assert_read_alike(path)


@pytest.mark.model
def test_smollm2_is_read_as_the_gguf_package_reads_it(smollm2_path: Path) -> None:
    assert_read_alike(smollm2_path)


@pytest.mark.model
@pytest.mark.slow
def test_gemma3_is_read_as_the_gguf_package_reads_it(gemma3_path: Path) -> None:
    assert_read_alike(gemma3_path)


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("qtype", QUANTISED, ids=lambda qtype: qtype.name)
def test_tensors_of_either_byte_order_give_the_same_floats(
    tmp_path: Path, *, big_endian: bool, qtype: gguf.GGMLQuantizationType
) -> None:
    path = tmp_path / "model.gguf"
    expected = write_valid(path, big_endian=big_endian, types=[qtype])

    with GgufFile.open(path) as file:
        for name, values in expected.items():
            np.testing.assert_array_equal(file.floats(name), values, strict=True)


# -- forms of files ----------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_are_read_in_both_byte_orders(
    tmp_path: Path, version: int, order: str
) -> None:
    data = np.arange(4, dtype=order + "f4").tobytes()
    keys = [("n", "u32", 7)]
    content = gguf_bytes(keys, [Tensor("w", data=data)], order=order, version=version)

    with GgufFile.open(written(tmp_path, content)) as file:
        assert (file.version, file.byte_order) == (version, "little" if order == "<" else "big")
        assert file.metadata == {"n": 7}
        assert file.floats("w").tolist() == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("alignment", [1, 2, 8, 256, 1 << 20])
def test_tensors_begin_at_multiples_of_the_alignment(tmp_path: Path, alignment: int) -> None:
    tensors = [Tensor("a"), Tensor("b", data=np.ones(4, np.float32).tobytes())]
    keys = [("general.alignment", "u32", alignment)]
    content = gguf_bytes(keys, tensors, alignment=alignment)

    with GgufFile.open(written(tmp_path, content)) as file:
        assert [tensor.byte_start % alignment for tensor in file.tensors.values()] == [0, 0]
        assert file.floats("b").tolist() == [1.0] * 4


def test_a_file_without_tensors_and_keys_is_sound() -> None:
    header = read_header(gguf_bytes(), SOMEWHERE, NO_LIMIT)

    assert (header.metadata, header.tensors, header.header_bytes) == ({}, {}, 24)


def test_a_tensor_may_end_where_the_file_ends() -> None:
    content = gguf_bytes([], [Tensor("w")])[:-16]

    assert read_header(content, SOMEWHERE, NO_LIMIT).tensors["w"].n_bytes == 16


def test_gaps_between_tensors_are_allowed() -> None:
    content = gguf_bytes([], [Tensor("a"), Tensor("b", offset=64)]) + bytes(64)

    assert set(read_header(content, SOMEWHERE, NO_LIMIT).tensors) == {"a", "b"}


def test_the_shape_is_outermost_first() -> None:
    content = gguf_bytes([], [Tensor("w", dims=(4, 3, 2, 1), data=bytes(96))])

    tensor = read_header(content, SOMEWHERE, NO_LIMIT).tensors["w"]

    assert (tensor.shape, tensor.n_elements) == ((1, 2, 3, 4), 24)


# -- tensors as numbers ------------------------------------------------------------------------


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    data = np.arange(12, dtype=np.float32).tobytes()
    return written(tmp_path, gguf_bytes([], [Tensor("w", dims=(3, 4), data=data)]))


@pytest.mark.parametrize(
    "rows", [slice(1, 3), slice(None), slice(-2, None), slice(3, 1), slice(2, 99)]
)
def test_rows_are_those_of_the_whole_tensor(matrix: Path, rows: slice) -> None:
    with GgufFile.open(matrix) as file:
        whole = file.floats("w")
        np.testing.assert_array_equal(file.floats("w", rows=rows), whole[rows], strict=True)


def test_floats_go_into_the_array_that_was_handed_in(matrix: Path) -> None:
    out = np.empty((2, 3), np.float32)

    with GgufFile.open(matrix) as file:
        assert file.floats("w", rows=slice(0, 2), out=out) is out

    assert out.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


def test_rows_in_steps_are_refused(matrix: Path) -> None:
    with GgufFile.open(matrix) as file, pytest.raises(ConfigError, match="steps of one"):
        file.floats("w", rows=slice(0, 4, 2))


def test_single_numbers_are_not_cut_out_of_a_block(tmp_path: Path) -> None:
    q8_0 = Tensor("w", dims=(64,), qtype=8, data=bytes(68))

    with GgufFile.open(written(tmp_path, gguf_bytes([], [q8_0]))) as file:
        assert file.floats("w").tolist() == [0.0] * 64
        with pytest.raises(ConfigError, match="Q8_0"):
            file.floats("w", rows=slice(0, 32))


def test_the_bytes_of_a_tensor_are_a_read_only_view(matrix: Path) -> None:
    with GgufFile.open(matrix) as file:
        view = file.data("w")

        assert (view.flags.writeable, view.flags.owndata) == (False, False)
        del view


def test_a_tensor_that_is_not_there_is_an_error_with_its_name(matrix: Path) -> None:
    with GgufFile.open(matrix) as file, pytest.raises(ModelFileError, match="'v'") as caught:
        file.data("v")

    assert caught.value.reason is ReasonCode.MODEL_TENSOR_MISSING
