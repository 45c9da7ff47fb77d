"""Files of the Hugging Face Hub, written ``hf:owner/repository/path/file.gguf``. Extra ``hub``."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from smallmind._registry import child
from smallmind._registry.cache import (
    beside,
    discard,
    mismatch,
    place_of,
    record,
    sha256_of,
    staging_of,
)
from smallmind._registry.entry import ProgressListener, PullProgress, PullStage
from smallmind_engine.control import WorkLimit
from smallmind_engine.telemetry import MissingExtraError, ReasonCode, RegistryError

HUB_PREFIX: Final = "hf:"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")  # the etag of a large file; others have a git hash
_FEWEST_NAMES: Final = 3  # owner, repository, file


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository of the Hub.

    Attributes:
        repository: ``owner/name``.
        file_path: path inside the repository, with ``/``.
    """

    repository: str
    file_path: str

    @classmethod
    def parse(cls, reference: str) -> Self:
        """Read ``hf:owner/repository/path/file.gguf``.

        Raises:
            RegistryError: ``MODEL_NAME_UNKNOWN`` when it is not of that form.
        """
        names = reference.removeprefix(HUB_PREFIX).split("/")
        if not reference.startswith(HUB_PREFIX) or len(names) < _FEWEST_NAMES:
            raise RegistryError(
                ReasonCode.MODEL_NAME_UNKNOWN,
                f"{reference!r} does not name a file of the Hub",
                hint="write hf:owner/repository/file.gguf",
                name=reference,
            )
        return cls("/".join(names[:2]), "/".join(names[2:]))

    @property
    def target(self) -> Path:
        """Where the file lies in the cache.

        Raises:
            RegistryError: ``PATH_OUTSIDE_CACHE`` when a part of the reference is no plain name.
        """
        return place_of("hub", *self.repository.split("/"), *self.file_path.split("/"))


def fetch(
    file: HubFile, target: Path, *, on_progress: ProgressListener | None, limit: WorkLimit
) -> None:
    """Download a file of the Hub into ``target``; the caller holds its lock.

    The download runs in a child process, so that it can be cancelled at once; what has arrived
    stays in the staging folder, from which ``huggingface_hub`` resumes.

    Raises:
        MissingExtraError: ``huggingface_hub`` is not installed.
        RegistryError: the download failed, or is not what the Hub announced.
        OperationCancelledError: ``limit`` was reached.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise MissingExtraError("hub", f"{HUB_PREFIX}{file.repository}/{file.file_path}")
    staging = staging_of(target)
    staging.mkdir(parents=True, exist_ok=True)
    log = staging / "hub.log"

    def watch() -> None:
        if on_progress is not None:
            total = _facts(log).get("size_bytes")
            size = total if isinstance(total, int) else 0
            done = child.largest_file_bytes(staging)
            on_progress(PullProgress(PullStage.DOWNLOAD, min(done, size or done), size))

    program = str(Path(__file__).with_name("hub_child.py"))
    status = child.run(
        [sys.executable, "-P", program, file.repository, file.file_path, str(staging)],
        temp=staging,
        log=log,
        limit=limit,
        work=f"downloading {file.file_path}",
        on_tick=watch,
    )
    facts = _facts(log)
    if status != 0 or "path" not in facts:
        raise RegistryError(
            ReasonCode.DOWNLOAD_FAILED,
            f"cannot fetch {file.file_path} of {file.repository}: {child.tail_of(log)}",
            hint="check the names, the network, and that you may read the repository",
        )
    watch()
    _install(Path(str(facts["path"])), target, facts, on_progress=on_progress, limit=limit)
    discard(staging)


def _install(
    fetched: Path,
    target: Path,
    facts: dict[str, object],
    *,
    on_progress: ProgressListener | None,
    limit: WorkLimit,
) -> None:
    digest = sha256_of(fetched, on_progress=on_progress, limit=limit)
    size = fetched.stat().st_size
    etag = str(facts.get("etag"))
    if size != facts.get("size_bytes"):
        discard(staging_of(target), beside(target, ".json"))
        raise mismatch(target.name, "bytes", str(facts.get("size_bytes")), str(size))
    if _SHA256.fullmatch(etag) and digest != etag:
        discard(staging_of(target), beside(target, ".json"))
        raise mismatch(target.name, "SHA-256", etag, digest)
    fetched.replace(target)
    record(target, digest)


def _facts(log: Path) -> dict[str, object]:
    """What the child has told so far; its output may hold other lines, or half of one."""
    facts: dict[str, object] = {}
    for line in log.read_text("utf-8", "replace").splitlines():
        if line.startswith("{"):
            try:
                facts.update(json.loads(line))
            except ValueError:
                continue
    return facts
