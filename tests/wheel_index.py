"""A package index of tiny wheels in a folder, and registry entries whose parts lie in them."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from smallmind._registry import ModelEntry, WheelPart


def build_wheel(folder: Path, distribution: str, files: dict[str, bytes]) -> Path:
    """Write a wheel of version 1.0 that an installer accepts; its code would betray an import."""
    package = distribution.replace("-", "_")
    about = f"{package}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
    members = {
        f"{package}/__init__.py": b"raise SystemExit('code of a model wheel was run')\n",
        **files,
        f"{about}/METADATA": metadata.encode(),
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = [f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in members.items()]
    members[f"{about}/RECORD"] = "".join([*lines, f"{about}/RECORD,,\n"]).encode()
    path = folder / f"{package}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def model_of(folder: Path, parts: Sequence[bytes], name: str = "tiny") -> ModelEntry:
    """Put each part into a wheel of its own in ``folder``; return the entry of the whole."""
    return ModelEntry(
        name=name,
        file_name=f"{name}.gguf",
        size_bytes=sum(map(len, parts)),
        sha256=hashlib.sha256(b"".join(parts)).hexdigest(),
        licence="MIT",
        licence_url="https://opensource.org/license/mit",
        description="A model for tests.",
        architecture="llama",
        quantisation="F32",
        parts=tuple(_part_of(folder, f"{name}-part{i}", data) for i, data in enumerate(parts)),
    )


def _part_of(folder: Path, distribution: str, data: bytes) -> WheelPart:
    member = f"{distribution.replace('-', '_')}/data/model.part"
    wheel = build_wheel(folder, distribution, {member: data})
    return WheelPart(
        distribution=distribution,
        version="1.0",
        member=member,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        wheel_bytes=wheel.stat().st_size,
    )


def with_part(entry: ModelEntry, index: int, **changes: object) -> ModelEntry:
    """The entry with one of its parts changed."""
    parts = list(entry.parts)
    parts[index] = replace(parts[index], **changes)  # type: ignore[arg-type]
    return replace(entry, parts=tuple(parts))
