"""The life of an open file: opening, closing, identity, cancellation."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from gguf_files import Tensor, gguf_bytes, written
from smallmind_engine.control import NO_LIMIT, CancellationToken, WorkLimit
from smallmind_engine.gguf import GgufFile, read_header
from smallmind_engine.telemetry.errors import (
    ClosedError,
    ModelFileError,
    OperationCancelledError,
)
from smallmind_engine.telemetry.reasons import ReasonCode

SOMEWHERE = Path("model.gguf")


def one_tensor(folder: Path) -> Path:
    data = np.arange(4, dtype=np.float32).tobytes()
    return written(folder, gguf_bytes([], [Tensor("w", data=data)]))


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    data = np.arange(12, dtype=np.float32).tobytes()
    return written(tmp_path, gguf_bytes([], [Tensor("w", dims=(3, 4), data=data)]))


# -- opening and closing -----------------------------------------------------------------------


def test_a_path_may_be_a_string(matrix: Path) -> None:
    with GgufFile.open(str(matrix)) as file:
        assert (file.path, file.paths) == (matrix, (matrix,))
        assert file.file_bytes == matrix.stat().st_size


def test_progress_tells_header_bytes_of_all_bytes(matrix: Path) -> None:
    told: list[tuple[int, int]] = []

    GgufFile.open(matrix, on_progress=lambda done, total: told.append((done, total))).close()

    header = read_header(matrix.read_bytes(), matrix, NO_LIMIT)
    assert told == [(header.header_bytes, matrix.stat().st_size)]


def test_close_may_be_called_again(matrix: Path) -> None:
    file = GgufFile.open(matrix)

    file.close()
    file.close()


@pytest.mark.parametrize("use", ["data", "floats", "fingerprint", "sha256"])
def test_use_after_close_is_refused(matrix: Path, use: str) -> None:
    file = GgufFile.open(matrix)
    file.close()

    with pytest.raises(ClosedError, match="is closed"):
        getattr(file, use)(*(["w"] if use in {"data", "floats"} else []))


def test_metadata_outlives_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, gguf_bytes([("a", "[u8]", [1, 2])]))

    with GgufFile.open(path) as file:
        metadata = file.metadata

    assert metadata["a"].tolist() == [1, 2]


def test_a_view_that_is_still_held_survives_close(matrix: Path) -> None:
    file = GgufFile.open(matrix)
    view = file.data("w")

    file.close()

    assert view.view(np.float32).tolist() == list(range(12))


def assert_unreadable(path: Path | str, why: str) -> None:
    with pytest.raises(ModelFileError, match=why) as caught:
        GgufFile.open(path)
    assert caught.value.reason is ReasonCode.MODEL_FILE_UNREADABLE
    assert str(path) in str(caught.value)


def test_a_missing_file_is_an_error_with_its_path(tmp_path: Path) -> None:
    assert_unreadable(tmp_path / "none.gguf", "No such file")


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    assert_unreadable(tmp_path, "no regular file")


def test_an_empty_file_is_no_model(tmp_path: Path) -> None:
    assert_unreadable(written(tmp_path, b""), "empty")


def test_a_name_with_a_null_byte_is_no_model() -> None:
    assert_unreadable("model\0.gguf", "null")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.gguf"
    os.mkfifo(pipe)

    assert_unreadable(pipe, "no regular file")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything"
)
def test_a_file_without_permission_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, gguf_bytes())
    path.chmod(0)

    assert_unreadable(path, "ermission")


def test_the_reason_of_the_system_is_passed_on(
    matrix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)

    assert_unreadable(matrix, "Permission denied")


# -- identity ----------------------------------------------------------------------------------


def test_the_fingerprint_is_the_same_for_a_copy(tmp_path: Path) -> None:
    path = one_tensor(tmp_path)
    copy = written(tmp_path, path.read_bytes(), "copy.gguf")

    with GgufFile.open(path) as file, GgufFile.open(copy) as other:
        assert file.fingerprint() == file.fingerprint() == other.fingerprint()
        assert len(file.fingerprint()) == 32


@pytest.mark.parametrize("at", [-1, -30, 50])
def test_the_fingerprint_of_a_small_file_sees_every_byte(tmp_path: Path, at: int) -> None:
    content = gguf_bytes([("key", "str", "abcdefghi")], [Tensor("w")])
    changed = bytearray(content)
    changed[at] ^= 1
    path, other = written(tmp_path, content), written(tmp_path, bytes(changed), "b.gguf")

    with GgufFile.open(path) as file, GgufFile.open(other) as changed_file:
        assert file.fingerprint() != changed_file.fingerprint()


def test_the_fingerprint_sees_other_weights_in_a_large_file(tmp_path: Path) -> None:
    def with_weights(value: int) -> str:
        data = np.full(1 << 18, value, np.float32).tobytes()
        content = gguf_bytes([], [Tensor("w", dims=(1 << 18,), data=data)])
        with GgufFile.open(written(tmp_path, content)) as file:
            return file.fingerprint()

    assert with_weights(1) != with_weights(2)


def test_sha256_is_that_of_the_file(tmp_path: Path) -> None:
    path = one_tensor(tmp_path)
    told: list[tuple[int, int]] = []

    with GgufFile.open(path) as file:
        digest = file.sha256(on_progress=lambda done, total: told.append((done, total)))

    content = path.read_bytes()
    assert digest == hashlib.sha256(content).hexdigest()
    assert told == [(len(content), len(content))]


# -- cancellation ------------------------------------------------------------------------------


class CancelsAfter(WorkLimit):
    """Lets ``checks`` checks pass."""

    __slots__ = ("left", "token")

    def __init__(self, checks: int) -> None:
        self.token = CancellationToken()
        super().__init__(self.token)
        self.left = checks

    def check(self, work: str) -> None:
        if self.left == 0:
            self.token.cancel()
        self.left -= 1
        super().check(work)


LONG = gguf_bytes(
    [("a", "u8", 1), ("tokens", "[str]", ["x"] * 10_000), ("nested", "[[u8]]", [[], []])],
    [Tensor("w"), Tensor("v")],
)


@pytest.mark.parametrize("checks", range(12))
def test_reading_a_header_stops_at_every_step(checks: int) -> None:
    with pytest.raises(OperationCancelledError, match="was stopped"):
        read_header(LONG, SOMEWHERE, CancelsAfter(checks))


def test_reading_a_header_checks_no_more_than_that() -> None:
    assert len(read_header(LONG, SOMEWHERE, CancelsAfter(12)).tensors) == 2


def test_a_cancelled_open_leaves_the_file_closed(tmp_path: Path) -> None:
    token = CancellationToken()
    token.cancel()

    with pytest.raises(OperationCancelledError):
        GgufFile.open(written(tmp_path, LONG), limit=WorkLimit(token))


def test_hashing_stops_when_cancelled(matrix: Path) -> None:
    token = CancellationToken()
    token.cancel()

    with GgufFile.open(matrix) as file, pytest.raises(OperationCancelledError):
        file.sha256(limit=WorkLimit(token))
