"""The data of the registry: what a model is, what it is made of, how far a pull has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelPart:
    """A run of a model file's bytes that lies as a file in a wheel.

    Attributes:
        distribution: name of the package that the wheel belongs to.
        version: its exact version.
        member: path of the file inside the wheel.
        size_bytes: size of that file, unpacked.
        sha256: its SHA-256, in hex.
        wheel_bytes: size of the wheel, which is what a download amounts to.
    """

    distribution: str
    version: str
    member: str
    size_bytes: int
    sha256: str
    wheel_bytes: int

    @property
    def requirement(self) -> str:
        """The part's wheel as installers spell it: ``name==version``."""
        return f"{self.distribution}=={self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A model that can be asked for by name.

    Attributes:
        name: what users type.
        file_name: name of the file in the cache.
        size_bytes: size of the GGUF file.
        sha256: SHA-256 of the GGUF file, in hex.
        licence: SPDX identifier, or the terms' own name where SPDX has none.
        licence_url: where the terms can be read.
        description: one sentence on what the model is good for.
        architecture: ``general.architecture`` of the file.
        quantisation: the type most of its weights have.
        parts: where the bytes come from, in the file's order.
    """

    name: str
    file_name: str
    size_bytes: int
    sha256: str
    licence: str
    licence_url: str
    description: str
    architecture: str
    quantisation: str
    parts: tuple[WheelPart, ...]

    @property
    def download_bytes(self) -> int:
        """Bytes that cross the network when nothing is there yet."""
        return sum(part.wheel_bytes for part in self.parts)

    @property
    def source(self) -> str:
        """Where the bytes come from, in one line."""
        return "wheels: " + " ".join(part.requirement for part in self.parts)


class PullStage(StrEnum):
    """What a pull is doing."""

    DOWNLOAD = "download"
    EXTRACT = "extract"
    VERIFY = "verify"


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far one stage of a pull has come.

    A model of several parts goes back and forth between download and extract; the counts of each
    stage cover all parts, so one bar for each stage only ever grows.

    Attributes:
        stage: what is being done.
        done_bytes: bytes of this stage done so far, over all parts.
        total_bytes: bytes of this stage altogether; 0 while that is not known.
    """

    stage: PullStage
    done_bytes: int
    total_bytes: int


ProgressListener = Callable[[PullProgress], None]
