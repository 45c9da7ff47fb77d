"""A GGUF model as a memory-mapped file, or as several when it is split."""

from __future__ import annotations

import hashlib
import mmap
import stat
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.gguf.header import Header, read_header
from smallmind_engine.gguf.metadata import MetadataValue
from smallmind_engine.gguf.quants import LAYOUTS, dequantize, swap_bytes
from smallmind_engine.gguf.split import merged_tensors, part_paths
from smallmind_engine.gguf.tensors import TensorInfo
from smallmind_engine.telemetry.errors import ClosedError, ConfigError, ModelFileError
from smallmind_engine.telemetry.reasons import ReasonCode

Progress = Callable[[int, int], None]

_SAMPLE_BYTES: Final = 4096
_SAMPLES: Final = 64
_HASH_BYTES: Final = 1 << 20


class GgufFile:
    """An open model. Reading is thread-safe; the weights stay on disk until they are used.

    Made by ``open``. Arrays that ``data`` gave out must be dropped before ``close``.

    Attributes:
        path: as opened.
        paths: all parts, in order.
        version: of the format.
        byte_order: ``little`` or ``big``.
        file_bytes: of all parts.
        metadata: of the first part.
        tensors: of all parts, by name.
    """

    def __init__(
        self, path: Path, paths: tuple[Path, ...], maps: list[mmap.mmap], headers: list[Header]
    ) -> None:
        first = headers[0]
        self.path = path
        self.paths = paths
        self.version = first.version
        self.byte_order = first.byte_order
        self.metadata: Mapping[str, MetadataValue] = first.metadata
        self.tensors: Mapping[str, TensorInfo] = merged_tensors(paths, headers)
        self.file_bytes = sum(len(each) for each in maps)
        self._headers = headers
        self._maps: list[mmap.mmap] | None = maps

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        limit: WorkLimit = NO_LIMIT,
        on_progress: Progress | None = None,
    ) -> Self:
        """Map a file (or all parts of a split model) and read everything but the weights.

        Args:
            path: of the file, or of any part.
            limit: stops the work.
            on_progress: told of bytes of headers read, and bytes of files in all.

        Raises:
            ModelFileError: it cannot be opened.
            GgufFormatError: its bytes break the format.
            OperationCancelledError: ``limit`` was exceeded.
        """
        path = Path(path)
        maps: dict[Path, mmap.mmap] = {}
        try:
            maps[path] = _map(path)
            first = read_header(maps[path], path, limit)
            paths = part_paths(path, first)
            for part in paths:
                if part not in maps:
                    maps[part] = _map(part)
            # The first part has the vocabulary: not read again when it is the one that was opened.
            headers = [
                first
                if index == 0 and part == path
                else read_header(maps[part], part, limit, index)
                for index, part in enumerate(paths)
            ]
            file = cls(path, paths, [maps[part] for part in paths], headers)
            file.release_all()  # what was read of the headers is in memory as metadata now
        except BaseException:
            _unmap(maps.values())
            raise
        if on_progress is not None:
            on_progress(sum(header.header_bytes for header in headers), file.file_bytes)
        return file

    def _map_of(self, tensor: TensorInfo) -> mmap.mmap:
        return self._open_maps()[tensor.part]

    def data(self, name: str) -> npt.NDArray[np.uint8]:
        """The bytes of a tensor, as a read-only view of the file.

        Raises:
            ModelFileError: there is no tensor of that name.
            ClosedError: the file is closed.
        """
        tensor = self._tensor(name)
        return np.frombuffer(self._map_of(tensor), np.uint8, tensor.n_bytes, tensor.byte_start)

    def rows(self, name: str, rows: slice | None = None) -> npt.NDArray[np.uint8]:
        """The bytes of a tensor or of some of its rows, in the little-endian form of its type.

        Args:
            name: of the tensor.
            rows: as in ``floats``.

        Returns:
            A read-only view of the file, or a copy when its byte order is another.

        Raises:
            ModelFileError: there is no tensor of that name.
            ConfigError: ``rows`` cannot be cut out.
            ClosedError: the file is closed.
        """
        tensor = self._tensor(name)
        data = self.data(name)
        if rows is not None:
            begin, end = _row_range(tensor, rows)
            row_bytes = tensor.n_bytes // tensor.shape[0]
            data = data[begin * row_bytes : end * row_bytes]
        return swap_bytes(data, tensor.qtype) if self.byte_order == "big" else data

    def release(self, name: str) -> None:
        """Let the operating system take the memory of a tensor's bytes; they stay readable.

        Nothing happens where the platform knows no such advice.
        """
        tensor = self._tensor(name)
        advice = getattr(mmap, "MADV_DONTNEED", None)
        begin = -(-tensor.byte_start // mmap.PAGESIZE) * mmap.PAGESIZE
        length = (tensor.byte_start + tensor.n_bytes) // mmap.PAGESIZE * mmap.PAGESIZE - begin
        if advice is not None and length > 0:
            self._map_of(tensor).madvise(advice, begin, length)

    def release_all(self) -> None:
        """Let the operating system take the memory of all bytes; they stay readable."""
        advice = getattr(mmap, "MADV_DONTNEED", None)
        if advice is not None:
            for each in self._open_maps():
                each.madvise(advice)

    def floats(
        self,
        name: str,
        *,
        rows: slice | None = None,
        out: npt.NDArray[np.float32] | None = None,
        limit: WorkLimit = NO_LIMIT,
    ) -> npt.NDArray[np.float32]:
        """A tensor as float32.

        Args:
            name: of the tensor.
            rows: only these of the outermost dimension, in steps of one; None for all. Not for
                vectors of a type that packs several numbers into a block.
            out: receives the result; C-contiguous.
            limit: stops the work.

        Raises:
            ModelFileError: there is no tensor of that name.
            ConfigError: ``rows`` cannot be cut out, or ``out`` cannot hold the result.
            ClosedError: the file is closed.
            OperationCancelledError: ``limit`` was exceeded.
        """
        tensor = self._tensor(name)
        data, shape = self.data(name), tensor.shape
        if rows is not None:
            begin, end = _row_range(tensor, rows)
            row_bytes = tensor.n_bytes // shape[0]
            data = data[begin * row_bytes : end * row_bytes]
            shape = (end - begin, *shape[1:])
        big_endian = self.byte_order == "big"
        return dequantize(data, tensor.qtype, shape, out, limit, big_endian=big_endian)

    def _tensor(self, name: str) -> TensorInfo:
        tensor = self.tensors.get(name)
        if tensor is None:
            raise ModelFileError(
                ReasonCode.MODEL_TENSOR_MISSING,
                f"{self.path}: there is no tensor {name!r}",
                tensor=name,
            )
        return tensor

    def fingerprint(self, *, limit: WorkLimit = NO_LIMIT) -> str:
        """A cheap identity of the content: 32 hex digits.

        Hashes all headers, and up to 64 samples of 4 KiB spread evenly over each file; so files
        of the same headers that differ in a few bytes of weights only may share it. ``sha256``
        tells for sure.

        Args:
            limit: stops the work.

        Raises:
            OperationCancelledError: ``limit`` was exceeded.
        """
        digest = hashlib.blake2b(digest_size=16)
        for each, header in zip(self._open_maps(), self._headers, strict=True):
            size = len(each)
            digest.update(size.to_bytes(8, "little"))
            for begin in range(0, header.header_bytes, _HASH_BYTES):
                limit.check("taking the fingerprint of the model file")
                digest.update(each[begin : min(begin + _HASH_BYTES, header.header_bytes)])
            step = max(_SAMPLE_BYTES, (size - header.header_bytes) // _SAMPLES)
            for begin in range(header.header_bytes, size, step):
                limit.check("taking the fingerprint of the model file")
                digest.update(each[begin : begin + _SAMPLE_BYTES])
        return digest.hexdigest()

    def sha256(self, *, limit: WorkLimit = NO_LIMIT, on_progress: Progress | None = None) -> str:
        """SHA-256 of the file, or of all parts one after the other: 64 hex digits."""
        digest = hashlib.sha256()
        done = 0
        for each in self._open_maps():
            for begin in range(0, len(each), _HASH_BYTES):
                limit.check("hashing the model file")
                piece = each[begin : begin + _HASH_BYTES]
                digest.update(piece)
                done += len(piece)
                if on_progress is not None:
                    on_progress(done, self.file_bytes)
        return digest.hexdigest()

    def _open_maps(self) -> list[mmap.mmap]:
        if self._maps is None:
            raise ClosedError(ReasonCode.CLOSED, f"{self.path} is closed")
        return self._maps

    def close(self) -> None:
        """Unmap the file. May be called again."""
        maps, self._maps = self._maps, None
        _unmap(maps or ())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _row_range(tensor: TensorInfo, rows: slice) -> tuple[int, int]:
    """First row, and the one after the last."""
    begin, end, step = rows.indices(tensor.shape[0])
    packed_vector = len(tensor.shape) == 1 and LAYOUTS[tensor.qtype].block_elements > 1
    if step != 1 or packed_vector:
        raise ConfigError(
            ReasonCode.OPTION_INVALID,
            f"rows {rows} of the tensor {tensor.name!r} cannot be cut out: {tensor.qtype.name},"
            f" shape {tensor.shape}",
            hint="take rows of a matrix, in steps of one",
            option="rows",
            value=rows,
        )
    return begin, max(begin, end)


def _unmap(maps: Iterable[mmap.mmap]) -> None:
    for each in maps:
        # BufferError: somebody still holds a view; the map goes when the view goes.
        with suppress(BufferError):
            each.close()


def _map(path: Path) -> mmap.mmap:
    try:
        # Asked first: opening a pipe would wait for somebody to write into it.
        if stat.S_ISREG(path.stat().st_mode):
            with path.open("rb") as file:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise _unreadable(path, str(error)) from error
    raise _unreadable(path, "it is no regular file")


def _unreadable(path: Path, why: str) -> ModelFileError:
    return ModelFileError(
        ReasonCode.MODEL_FILE_UNREADABLE,
        f"{path} cannot be read as a model: {why}",
        hint="pass the path of a .gguf file",
        path=path,
    )
