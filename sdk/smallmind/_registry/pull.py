"""Getting a model: from the cache, or from its source into the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from smallmind._registry import hub
from smallmind._registry.assembly import Assembly
from smallmind._registry.cache import (
    beside,
    discard,
    is_recorded,
    place_of,
    record,
    staging_of,
    verify,
)
from smallmind._registry.entry import ModelEntry, ProgressListener
from smallmind._registry.locking import exclusive
from smallmind._registry.lookup import entries, find, known_names, suggestion
from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.telemetry import ReasonCode, RegistryError, SmallMindError


def pull(
    model: str | ModelEntry,
    *,
    on_progress: ProgressListener | None = None,
    limit: WorkLimit = NO_LIMIT,
    force: bool = False,
) -> Path:
    """Get a model of the registry into the cache.

    The file appears under its name only when its size and SHA-256 are right. Two processes that
    pull one model at once do one download; an interrupted pull goes on where it can.

    Args:
        model: a name of the registry, ``hf:owner/repository/file.gguf``, or an entry.
        on_progress: told how far each stage is; what it raises stops the pull.
        limit: cancellation and deadline.
        force: download again even when the model is there.

    Returns:
        The path of the model file.

    Raises:
        RegistryError: unknown name, failed download, or bytes that are not the expected ones.
        MissingExtraError: the source needs an extra that is not installed.
        OperationCancelledError: ``limit`` was reached.
    """
    if isinstance(model, str) and model.startswith(hub.HUB_PREFIX):
        file = hub.HubFile.parse(model)
        return _obtain(
            file.target,
            sha256=None,
            force=force,
            limit=limit,
            adopt=lambda: False,  # a file without a record has nothing to be compared with
            fetch=lambda: hub.fetch(file, file.target, on_progress=on_progress, limit=limit),
        )
    entry = find(model) if isinstance(model, str) else model
    target = place_of(entry.file_name)
    return _obtain(
        target,
        sha256=entry.sha256,
        force=force,
        limit=limit,
        adopt=lambda: _adopt(target, entry, on_progress=on_progress, limit=limit),
        fetch=Assembly(entry, target, on_progress=on_progress, limit=limit).run,
    )


def resolve(
    path_or_name: str | Path,
    *,
    on_progress: ProgressListener | None = None,
    limit: WorkLimit = NO_LIMIT,
) -> Path:
    """Turn what a user typed into a model file: a path as it is, a name from cache or source.

    Raises:
        RegistryError: ``MODEL_NAME_UNKNOWN`` when it is neither; else as ``pull``.
        MissingExtraError: as ``pull``.
        OperationCancelledError: as ``pull``.
    """
    path = Path(path_or_name).expanduser()
    if path.is_file():
        return path
    name = str(path_or_name)
    if name.startswith(hub.HUB_PREFIX) or name.casefold() in {entry.name for entry in entries()}:
        return pull(name, on_progress=on_progress, limit=limit)
    kind = "a folder, not a model file" if path.is_dir() else "no file"
    raise RegistryError(
        ReasonCode.MODEL_NAME_UNKNOWN,
        f"{name!r} is {kind}, and no model of the registry, which has {known_names()}",
        hint=suggestion(name) or "pass the path of a .gguf file or one of these names",
        name=name,
    )


def _obtain(
    target: Path,
    *,
    sha256: str | None,
    force: bool,
    limit: WorkLimit,
    adopt: Callable[[], bool],
    fetch: Callable[[], None],
) -> Path:
    """Take ``target`` from the cache, or fetch it under its lock."""
    if not force and is_recorded(target, sha256):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(beside(target, ".lock"), limit):
            # Another process may have finished the pull while this one waited for the lock.
            if force or not (is_recorded(target, sha256) or adopt()):
                fetch()
    except SmallMindError:
        raise
    except OSError as error:
        raise RegistryError(
            ReasonCode.DOWNLOAD_FAILED,
            f"cannot put {target.name} into {target.parent}: {error}",
            hint="check the folder's permissions and space, or set SMALLMIND_CACHE_DIR",
        ) from error
    return target


def _adopt(
    target: Path, entry: ModelEntry, *, on_progress: ProgressListener | None, limit: WorkLimit
) -> bool:
    """Take a file that lies in its place without a valid record, if it is the right one."""
    try:
        verify(target, entry, on_progress=on_progress, limit=limit)
    except FileNotFoundError:
        return False
    except RegistryError:  # a damaged copy; the fetch that follows replaces it
        discard(target, beside(target, ".json"), staging_of(target))
        return False
    record(target, entry.sha256)
    return True
