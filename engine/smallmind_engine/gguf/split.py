"""Models that are split into several files: finding the parts, and putting them together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from smallmind_engine.gguf.format_errors import shown
from smallmind_engine.gguf.header import Header
from smallmind_engine.gguf.metadata import get_int, require_int
from smallmind_engine.gguf.tensors import TensorInfo
from smallmind_engine.telemetry.errors import GgufFormatError, ModelFileError
from smallmind_engine.telemetry.reasons import ReasonCode

_PART: Final = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_MAX_PARTS: Final = 1024


def part_paths(path: Path, header: Header) -> tuple[Path, ...]:
    """The paths of all parts, in order; just ``path`` for a model in one file.

    Raises:
        ModelFileError: a part is missing, or the name does not tell the parts.
    """
    count = get_int(header.metadata, "split.count", 1)
    if count <= 1:
        return (path,)
    match = _PART.fullmatch(path.name)
    fits = match is not None and int(match["count"]) == count <= _MAX_PARTS
    if match is None or not fits or not 1 <= int(match["number"]) <= count:
        raise ModelFileError(
            ReasonCode.GGUF_SPLIT_INCOMPLETE,
            f"{path} is one of {count} parts; its name must end in"
            f" -00001-of-{count:05}.gguf, with its own number",
            hint="give the parts the names that they had",
            path=path,
            parts=count,
        )
    paths = tuple(
        path.with_name(f"{match['stem']}-{number:05}-of-{count:05}.gguf")
        for number in range(1, count + 1)
    )
    missing = [each.name for each in paths if not each.is_file()]
    if missing:
        raise ModelFileError(
            ReasonCode.GGUF_SPLIT_INCOMPLETE,
            f"{path} is one of {count} parts; missing: {', '.join(missing)}",
            hint="put all parts into one folder",
            path=path,
            missing=tuple(missing),
        )
    return paths


def merged_tensors(paths: Sequence[Path], headers: Sequence[Header]) -> dict[str, TensorInfo]:
    """The tensors of all parts.

    Raises:
        GgufFormatError: parts contradict each other.
    """
    tensors: dict[str, TensorInfo] = {}
    for index, (path, header) in enumerate(zip(paths, headers, strict=True)):
        if len(headers) > 1:
            _check_part(path, header, index, len(headers), headers[0].byte_order)
        twice = tensors.keys() & header.tensors.keys()
        if twice:
            raise _contradiction(path, f"it repeats the tensor {shown(min(twice))}")
        tensors.update(header.tensors)
    if len(headers) > 1:
        expected = get_int(headers[0].metadata, "split.tensors.count", len(tensors))
        if expected != len(tensors):
            raise _contradiction(
                paths[0], f"the parts hold {len(tensors)} tensors; {expected} are announced"
            )
    return tensors


def _check_part(path: Path, header: Header, index: int, count: int, byte_order: str) -> None:
    """Compare what a part says of itself with its name; ``split.no`` counts from 0."""
    number = require_int(header.metadata, "split.no") + 1
    total = require_int(header.metadata, "split.count")
    if (number, total) != (index + 1, count):
        raise _contradiction(
            path, f"it says to be part {number} of {total}; its name says {index + 1} of {count}"
        )
    if header.byte_order != byte_order:
        raise _contradiction(
            path, f"it is {header.byte_order}-endian; the first part is {byte_order}-endian"
        )


def _contradiction(path: Path, found: str) -> GgufFormatError:
    return GgufFormatError(
        ReasonCode.GGUF_SPLIT_INCOMPLETE,
        f"{path}: {found}",
        hint="put all parts of one model into one folder",
        path=path,
        offset=0,
    )
