"""Models in several files: whole through any part, refused when parts do not belong together."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from gguf_files import Tensor, gguf_bytes, split_keys, split_name, write_split
from smallmind_engine.control import WorkLimit
from smallmind_engine.gguf import GgufFile, read_header
from smallmind_engine.telemetry.errors import GgufFormatError, ModelFileError
from smallmind_engine.telemetry.reasons import ReasonCode


def refused(path: Path, why: str) -> ModelFileError:
    with pytest.raises(ModelFileError, match=why) as caught:
        GgufFile.open(path)
    assert caught.value.reason is ReasonCode.GGUF_SPLIT_INCOMPLETE
    return caught.value


def part(path: Path, number: int, count: int, name: str, n_tensors: int = 2, **how: str) -> None:
    path.write_bytes(gguf_bytes(split_keys(number, count, n_tensors), [Tensor(name)], **how))


@pytest.mark.parametrize("opened", [0, 1, 2])
def test_a_split_model_is_whole_through_any_part(tmp_path: Path, opened: int) -> None:
    paths = write_split(tmp_path)

    with GgufFile.open(paths[opened]) as file:
        assert file.paths == tuple(paths)
        assert file.metadata["general.architecture"] == "test"
        assert file.file_bytes == sum(path.stat().st_size for path in paths)
        assert [tensor.part for tensor in file.tensors.values()] == [0, 1, 2]
        values = [file.floats(f"blk.{index}.weight")[0] for index in range(3)]
        assert values == [1.0, 2.0, 3.0]


def test_a_model_that_the_gguf_package_split_is_read_whole(tmp_path: Path) -> None:
    writer = GGUFWriter(str(tmp_path / "model.gguf"), "test", split_max_tensors=2)
    expected = {f"t{index}": np.full((2, 3), index, np.float32) for index in range(5)}
    for name, values in expected.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file(tmp_path / "model.gguf")
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    with GgufFile.open(tmp_path / split_name("model", 2, 3)) as file:
        assert len(file.paths) == 3
        for name, values in expected.items():
            np.testing.assert_array_equal(file.floats(name), values, strict=True)


def test_identity_covers_all_parts_and_does_not_depend_on_the_one_opened(tmp_path: Path) -> None:
    paths = write_split(tmp_path)
    with GgufFile.open(paths[0]) as first, GgufFile.open(paths[2]) as last:
        fingerprint = first.fingerprint()
        whole = b"".join(path.read_bytes() for path in paths)
        assert fingerprint == last.fingerprint()
        assert first.sha256() == last.sha256() == hashlib.sha256(whole).hexdigest()

    changed = paths[1].read_bytes()
    paths[1].write_bytes(changed[:-1] + b"\1")

    with GgufFile.open(paths[0]) as file:
        assert file.fingerprint() != fingerprint


class CountsChecks(WorkLimit):
    """Tells how often work asked whether to stop."""

    __slots__ = ("checks",)

    def __init__(self) -> None:
        super().__init__()
        self.checks = 0

    def check(self, work: str) -> None:
        self.checks += 1
        super().check(work)


def test_the_first_part_is_read_once(tmp_path: Path) -> None:
    paths, opening, reading = write_split(tmp_path), CountsChecks(), CountsChecks()
    for path in paths:
        read_header(path.read_bytes(), path, reading)

    GgufFile.open(paths[0], limit=opening).close()

    assert opening.checks == reading.checks


def test_progress_counts_all_parts(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    file = GgufFile.open(write_split(tmp_path)[0], on_progress=lambda *at: told.append(at))

    assert told[0][1] == file.file_bytes
    file.close()


def test_one_part_of_one_is_a_whole_model_under_any_name(tmp_path: Path) -> None:
    path = tmp_path / "any.gguf"
    part(path, 1, 1, "w", 1)

    with GgufFile.open(path) as file:
        assert file.paths == (path,)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    paths = write_split(tmp_path)
    paths[1].unlink()
    paths[2].unlink()

    error = refused(paths[0], f"missing: {paths[1].name}, {paths[2].name}")

    assert error.details["missing"] == (paths[1].name, paths[2].name)


@pytest.mark.parametrize(
    "name",
    [
        "model.gguf",
        "model-00001-of-00003.gguf",
        "model-00003-of-00002.gguf",
        "model-00000-of-00002.gguf",
        "model-1-of-2.gguf",
    ],
)
def test_a_part_must_be_named_as_one(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    part(path, 1, 2, "a")

    refused(path, "its name must end in -00001-of-00002.gguf")


def test_more_than_1024_parts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / split_name("model", 1, 2000)
    part(path, 1, 2000, "a")

    refused(path, "one of 2000 parts")


def test_a_part_that_says_to_be_another_is_refused(tmp_path: Path) -> None:
    paths = write_split(tmp_path, 2)
    part(paths[1], 1, 2, "other")

    error = refused(paths[0], "says to be part 1 of 2; its name says 2 of 2")

    assert isinstance(error, GgufFormatError)
    assert error.details["offset"] == 0


def test_a_part_of_another_number_of_parts_is_refused(tmp_path: Path) -> None:
    paths = write_split(tmp_path, 2)
    part(paths[1], 2, 3, "other")

    refused(paths[0], "part 2 of 3; its name says 2 of 2")


def test_a_file_that_is_no_part_is_refused(tmp_path: Path) -> None:
    paths = write_split(tmp_path, 2)
    paths[1].write_bytes(gguf_bytes([], [Tensor("other")]))

    with pytest.raises(GgufFormatError, match=r"split\.no"):
        GgufFile.open(paths[0])


def test_a_tensor_in_two_parts_is_refused(tmp_path: Path) -> None:
    paths = write_split(tmp_path, 2)
    part(paths[1], 2, 2, "blk.0.weight")

    refused(paths[0], "repeats the tensor 'blk.0.weight'")


def test_parts_with_fewer_tensors_than_announced_are_refused(tmp_path: Path) -> None:
    paths = write_split(tmp_path, 2)
    part(paths[0], 1, 2, "a", n_tensors=7)

    refused(paths[0], "hold 2 tensors; 7 are announced")


def test_parts_of_different_byte_order_are_refused(tmp_path: Path) -> None:
    paths = write_split(tmp_path, 2)
    part(paths[1], 2, 2, "b", order=">")

    refused(paths[0], "big-endian; the first part is little-endian")


def test_a_part_count_that_is_no_integer_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_bytes([("split.count", "str", "2")]))

    with pytest.raises(GgufFormatError, match="must be an integer") as caught:
        GgufFile.open(path)

    assert caught.value.details["offset"] == 24


def test_damage_in_another_part_is_reported_with_its_path(tmp_path: Path) -> None:
    paths = write_split(tmp_path, 2)
    paths[1].write_bytes(paths[1].read_bytes()[:-20])

    with pytest.raises(GgufFormatError, match=paths[1].name) as caught:
        GgufFile.open(paths[0])

    assert caught.value.details["path"] == paths[1]
