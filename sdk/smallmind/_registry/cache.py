"""The model cache: where files lie, and how a cached file is known to be the right one.

Beside ``model.gguf`` lies ``model.gguf.json``, the record of its last verification: SHA-256, size
and modification time. While size and time are as recorded, the file is not hashed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Final

from smallmind._registry.entry import ModelEntry, ProgressListener, PullProgress, PullStage
from smallmind._registry.locking import exclusive
from smallmind._registry.lookup import find
from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.telemetry import MissingExtraError, ReasonCode, RegistryError

CHUNK_BYTES: Final = 1 << 20  # small enough that a cancellation is seen within milliseconds
_SAFE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def cache_dir() -> Path:
    """The folder of cached models: ``$SMALLMIND_CACHE_DIR``, else the platform's cache folder.

    Raises:
        MissingExtraError: the variable is not set and ``platformdirs`` is not installed.
    """
    chosen = os.environ.get("SMALLMIND_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    try:
        from platformdirs import user_cache_path
    except ImportError as error:
        needed_for = "the model cache (when $SMALLMIND_CACHE_DIR is not set)"
        raise MissingExtraError("cli", needed_for) from error
    return user_cache_path("smallmind", appauthor=False) / "models"


def place_of(*names: str) -> Path:
    """The path of a file in the cache, one name for each level.

    Raises:
        RegistryError: ``PATH_OUTSIDE_CACHE`` when a name could lead elsewhere.
    """
    for name in names:
        if not _SAFE_NAME.fullmatch(name) or name.endswith("."):
            raise RegistryError(
                ReasonCode.PATH_OUTSIDE_CACHE,
                f"{name!r} cannot be the name of a file in the model cache",
                hint="use letters, digits, '.', '_' and '-', and begin with a letter or digit",
                name=name,
            )
    return cache_dir().joinpath(*names)


def beside(path: Path, suffix: str) -> Path:
    """A companion of a cached file: ``model.gguf`` + ``.partial``."""
    return path.with_name(path.name + suffix)


def cached_path(entry: ModelEntry) -> Path | None:
    """Where the model lies when it is cached and was verified; None when it has to be pulled."""
    path = place_of(entry.file_name)
    return path if is_recorded(path, entry.sha256) else None


def verify(
    path: Path,
    entry: ModelEntry,
    *,
    on_progress: ProgressListener | None = None,
    limit: WorkLimit = NO_LIMIT,
) -> None:
    """Hash a file and compare it with its entry.

    Raises:
        RegistryError: ``DOWNLOAD_CHECKSUM_MISMATCH``, with both values.
        OperationCancelledError: ``limit`` was reached.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    if size != entry.size_bytes:
        raise mismatch(str(path), "bytes", str(entry.size_bytes), str(size))
    digest = sha256_of(path, on_progress=on_progress, limit=limit)
    if digest != entry.sha256:
        raise mismatch(str(path), "SHA-256", entry.sha256, digest)


def mismatch(what: str, quantity: str, expected: str, found: str) -> RegistryError:
    """The error for bytes that are not the expected ones."""
    return RegistryError(
        ReasonCode.DOWNLOAD_CHECKSUM_MISMATCH,
        f"{what}: {quantity} should be {expected}, but is {found}",
        hint="pull the model again",
        expected=expected,
        found=found,
    )


def sha256_of(
    path: Path, *, on_progress: ProgressListener | None = None, limit: WorkLimit = NO_LIMIT
) -> str:
    """SHA-256 of a file in hex, read in chunks so that it can be cancelled."""
    digest = hashlib.sha256()
    total = path.stat().st_size
    done = 0
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            limit.check(f"verifying {path.name}")
            digest.update(chunk)
            done += len(chunk)
            if on_progress is not None:
                on_progress(PullProgress(PullStage.VERIFY, done, total))
    return digest.hexdigest()


def remove(name: str) -> bool:
    """Delete a model and everything that a pull of it may have left.

    Returns:
        Whether there was anything to delete.

    Raises:
        RegistryError: ``MODEL_NAME_UNKNOWN``.
    """
    path = place_of(find(name).file_name)
    if not path.parent.is_dir():
        return False
    with exclusive(beside(path, ".lock"), NO_LIMIT):
        return discard(path, beside(path, ".json"), beside(path, ".partial"), staging_of(path))


def staging_of(path: Path) -> Path:
    """The folder into which a pull of ``path`` downloads; only the holder of its lock may."""
    return beside(path, ".staging")


def discard(*paths: Path) -> bool:
    """Delete files and folders; tell whether any was there."""
    found = False
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
            found = True
        elif path.is_symlink() or path.exists():
            path.unlink()
            found = True
    return found


def record(path: Path, sha256: str) -> None:
    """Note that ``path``, as it is now, has this SHA-256."""
    stat = path.stat()
    note = {"sha256": sha256, "size_bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    draft = beside(path, ".json.draft")
    draft.write_text(json.dumps(note) + "\n", encoding="utf-8")
    draft.replace(beside(path, ".json"))


def is_recorded(path: Path, sha256: str | None) -> bool:
    """Whether ``path`` is unchanged since its last verification, and is the file meant.

    Args:
        path: the cached file.
        sha256: the SHA-256 it must have; None when any recorded one will do.
    """
    try:
        stat = path.stat()
        note = json.loads(beside(path, ".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a record that cannot be read is no record
        return False
    if not isinstance(note, dict) or (sha256 is not None and note.get("sha256") != sha256):
        return False
    return (note.get("size_bytes"), note.get("mtime_ns")) == (stat.st_size, stat.st_mtime_ns)
