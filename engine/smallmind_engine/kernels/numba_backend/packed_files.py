"""Packed weights on disk, so that the next load maps them instead of packing them again.

``<cache root>/weights/<key>.packed``: the key is a hash of the model file's fingerprint and of
where each matrix lies, so a file never has to be replaced. It has a header, zeros up to a huge
page, and the arena as it is in memory. All processes that map it share the memory.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import stat
import struct
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from smallmind_engine.control import WorkLimit
from smallmind_engine.kernels.backend import Progress
from smallmind_engine.kernels.numba_backend.cache_root import cache_root
from smallmind_engine.kernels.numba_backend.matrix_plan import MatrixPlan, arena_bytes
from smallmind_engine.kernels.numba_backend.packed_model import pack_model
from smallmind_engine.kernels.spec import WeightSource
from smallmind_engine.memory.huge_pages import HugeMemory

Arena = npt.NDArray[np.uint8]

FORMAT_VERSION: Final = 1
"""To be raised when ``kernels.packing`` writes other bytes for the same plan."""

MOST_BYTES: Final = 20_000_000_000
"""Size of all files together beyond which the least recently used are deleted."""

DATA_OFFSET: Final = 1 << 21
"""Where the arena begins in a file: at a huge page, so that it is aligned in memory too."""

_MAGIC: Final = b"smallmind-packed"
_HEADER: Final = struct.Struct("<16sIIQQ32s16s")  # and a digest of that
_DIGEST_BYTES: Final = 16
_HEADER_BYTES: Final = _HEADER.size + _DIGEST_BYTES
_SAMPLES: Final = 64
_SAMPLE_BYTES: Final = 4096
_WRITE_BYTES: Final = 1 << 22
_SUFFIX: Final = ".packed"
_DRAFT_SUFFIX: Final = ".draft"
_DRAFT_AGE_S: Final = 3600.0  # no write takes as long; what is older was left by a crash


@dataclass(frozen=True, slots=True)
class PackedOrigin:
    """Where a model's packed weights come from.

    Attributes:
        is_mapped: from a file of an earlier load; else they were packed now.
        path: of the file; None when there is none.
        not_saved: why weights that were packed now could not be saved; None when they were, or
            nobody asked for it.
    """

    is_mapped: bool
    path: Path | None = None
    not_saved: str | None = None


def default_directory() -> Path | None:
    """The folder of packed weights; None when the user has no home directory."""
    root = cache_root()
    return None if root is None else root / "weights"


def packed_file(plans: Sequence[MatrixPlan], fingerprint: str, directory: Path) -> Path:
    """The file of a model's packed weights, which need not exist.

    Args:
        plans: of all matrices.
        fingerprint: of the model file's content.
        directory: of all such files.
    """
    digest = hashlib.blake2b(digest_size=32)
    digest.update(f"{FORMAT_VERSION}\0{fingerprint}\0{len(plans)}\0".encode())
    for plan in plans:
        order = b"" if plan.order is None else plan.order.astype("<i8").tobytes()
        parts = (
            plan.tensor, plan.first_row, plan.rows, plan.columns, plan.qtype.name, plan.layout,
            plan.offset, plan.n_bytes, hashlib.blake2b(order, digest_size=16).hexdigest(),
        )  # fmt: skip
        digest.update("\0".join(map(str, parts)).encode() + b"\0")
    return directory / f"{digest.hexdigest()}{_SUFFIX}"


def load_or_pack(
    plans: Sequence[MatrixPlan],
    source: WeightSource,
    fingerprint: str,
    directory: Path | None,
    limit: WorkLimit,
    on_progress: Progress | None,
) -> tuple[Arena, PackedOrigin]:
    """Map the packed weights of an earlier load, or else pack them, and save them for the next.

    Args:
        plans: of all matrices.
        source: has the weights.
        fingerprint: of the model file's content.
        directory: of all such files; None to pack without looking or saving.
        limit: stops the work.
        on_progress: told of bytes done, and bytes in all.

    Returns:
        The arena, which may be read-only, and where it comes from.

    Raises:
        OperationCancelledError: ``limit`` was exceeded.
    """
    size = arena_bytes(tuple(plans))
    path = None if directory is None else packed_file(plans, fingerprint, directory)
    if path is not None:
        mapped = map_arena(path, size)
        if mapped is not None:
            if on_progress is not None:
                on_progress(size, size)
            return mapped, PackedOrigin(is_mapped=True, path=path)
    arena = HugeMemory(size).array
    pack_model(plans, source, arena, limit, on_progress)
    if path is None:
        return arena, PackedOrigin(is_mapped=False)
    problem = save_arena(path, arena, limit)
    if problem is not None:
        return arena, PackedOrigin(is_mapped=False, not_saved=problem)
    remove_unused(path.parent, path)
    return arena, PackedOrigin(is_mapped=False, path=path)


def save_arena(path: Path, arena: Arena, limit: WorkLimit) -> str | None:
    """Write packed weights; readers see the whole file or none.

    Args:
        path: as ``packed_file`` says; its folder need not exist.
        arena: all matrices.
        limit: stops the work.

    Returns:
        What stood in the way; None when the file is there.

    Raises:
        OperationCancelledError: ``limit`` was exceeded. Nothing is left behind.
    """
    draft = path.with_name(f"{path.stem}.{uuid.uuid4().hex[:16]}{_DRAFT_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if free < 2 * arena.nbytes:  # a disk that is full to the brim harms others
            return f"{path.parent} has {free} bytes free; twice {arena.nbytes} are asked for"
        with draft.open("xb") as file:
            file.write(_header(path, arena))
            file.seek(DATA_OFFSET)
            for begin in range(0, arena.nbytes, _WRITE_BYTES):
                limit.check("saving packed weights")
                file.write(arena[begin : begin + _WRITE_BYTES].data)
        os.replace(draft, path)  # noqa: PTH105 - atomic; readers see all or nothing
    except OSError as error:
        return f"{path.parent} cannot be written: {error.strerror or error}"
    finally:
        with suppress(OSError):
            draft.unlink()
    return None


def map_arena(path: Path, size: int) -> Arena | None:
    """Packed weights of an earlier load, as read-only memory that stays on disk until it is used.

    It stays valid when the file is deleted. Checked are the header, the size, and samples of the
    content, so damage by a few bytes may go unseen; files are complete once they have their name.

    Args:
        path: as ``packed_file`` says.
        size: of the arena in bytes.

    Returns:
        The arena, which begins at a multiple of 64; None when there is none, or it is damaged.
    """
    try:
        # Asked first: opening a pipe would wait for somebody to write into it.
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size != DATA_OFFSET + size:
            return None
        with path.open("rb") as file:
            memory = mmap.mmap(file.fileno(), DATA_OFFSET + size, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # ValueError: the file has become shorter since
        return None
    arena = np.frombuffer(memory, np.uint8, size, DATA_OFFSET)
    if memory[:_HEADER_BYTES] != _header(path, arena):
        return None
    _advise(memory)
    with suppress(OSError):
        os.utime(path)  # when a file was used last tells which one goes first
    return arena


def remove_unused(directory: Path, keep: Path, most_bytes: int = MOST_BYTES) -> list[Path]:
    """Delete the files that were not used for longest, until the rest is small enough.

    Best effort. What crashed processes left half written goes too.

    Args:
        directory: of all files.
        keep: the file in use.
        most_bytes: that all files together may have.

    Returns:
        The files that are gone.
    """
    gone = []
    total = 0
    for used, size, path in sorted(_files(directory), reverse=True):
        if path.suffix == _DRAFT_SUFFIX:
            unwanted = used < time.time() - _DRAFT_AGE_S
        else:
            total += size
            unwanted = total > most_bytes and path.name != keep.name
        if unwanted:
            with suppress(OSError):
                path.unlink()
                gone.append(path)
    return gone


def _files(directory: Path) -> Iterator[tuple[float, int, Path]]:
    """When each of our files was used last, and its size."""
    with suppress(OSError):
        for path in directory.iterdir():
            if path.suffix in {_SUFFIX, _DRAFT_SUFFIX}:
                with suppress(OSError):
                    found = path.stat()
                    yield found.st_mtime, found.st_size, path


def _header(path: Path, arena: Arena) -> bytes:
    """The first bytes of the file of an arena."""
    key = hashlib.blake2b(path.stem.encode(), digest_size=32).digest()
    fields = (_MAGIC, FORMAT_VERSION, _HEADER_BYTES, DATA_OFFSET, arena.nbytes, key)
    header = _HEADER.pack(*fields, _content_digest(arena))
    return header + hashlib.blake2b(header, digest_size=_DIGEST_BYTES).digest()


def _content_digest(arena: Arena) -> bytes:
    """Hash of samples spread evenly, the first and the last bytes among them."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    last = max(0, arena.nbytes - _SAMPLE_BYTES)
    for index in range(_SAMPLES):
        begin = last * index // (_SAMPLES - 1)
        digest.update(arena[begin : begin + _SAMPLE_BYTES].data)
    return digest.digest()


def _advise(memory: mmap.mmap) -> None:
    """Ask for reading ahead, and for huge pages, where the platform knows how."""
    for name in ("MADV_HUGEPAGE", "MADV_WILLNEED"):
        advice = getattr(mmap, name, None)
        if advice is not None:
            with suppress(OSError):  # such as a file system without huge pages
                memory.madvise(advice)
