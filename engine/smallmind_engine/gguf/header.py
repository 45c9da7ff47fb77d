"""The header of one GGUF file: magic, version, byte order, metadata and tensor table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from smallmind_engine.control import WorkLimit
from smallmind_engine.gguf.cursor import Buffer, Cursor
from smallmind_engine.gguf.format_errors import format_error, shown
from smallmind_engine.gguf.metadata import Metadata, MetadataValue, read_metadata
from smallmind_engine.gguf.tensors import LEAST_ENTRY_BYTES, TensorInfo, read_tensors
from smallmind_engine.telemetry.reasons import ReasonCode

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
DEFAULT_ALIGNMENT: Final = 32
_MAX_ALIGNMENT: Final = 1 << 20
_LEAST_KEY_BYTES: Final = 8 + 4 + 1  # length, type, smallest value
_LITTLE, _BIG = "<", ">"


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself.

    Attributes:
        byte_order: ``little`` or ``big``.
        header_bytes: up to the end of the tensor table.
    """

    version: int
    byte_order: str
    metadata: Mapping[str, MetadataValue]
    tensors: Mapping[str, TensorInfo]
    header_bytes: int


def read_header(buffer: Buffer, path: Path, limit: WorkLimit, part: int = 0) -> Header:
    """Read everything but the weights.

    Args:
        buffer: all bytes of the file.
        path: for errors.
        limit: stops the work.
        part: index of the file in a split model.

    Raises:
        GgufFormatError: the bytes break the format.
        OperationCancelledError: ``limit`` was exceeded.

    Source: ggml's docs/gguf.md.
    """
    cursor = Cursor(buffer, path)
    cursor.need(len(MAGIC), "the magic")
    if bytes(buffer[: len(MAGIC)]) != MAGIC:
        raise format_error(
            ReasonCode.GGUF_NOT_GGUF,
            path,
            0,
            f"the file begins with {bytes(buffer[: len(MAGIC)])!r}; expected {MAGIC!r}",
            hint="pass a .gguf file",
        )
    cursor.offset = len(MAGIC)
    version, order = _version(cursor)
    cursor = Cursor(buffer, path, order)
    cursor.offset = len(MAGIC) + 4
    n_tensors = cursor.count(LEAST_ENTRY_BYTES, "the number of tensors")
    n_keys = cursor.count(_LEAST_KEY_BYTES, "the number of metadata keys")
    metadata = read_metadata(cursor, n_keys, limit)
    alignment = _alignment(cursor, metadata)
    tensors = read_tensors(cursor, n_tensors, alignment, part, limit)
    return Header(
        version=version,
        byte_order="little" if order == _LITTLE else "big",
        metadata=metadata,
        tensors=tensors,
        header_bytes=cursor.offset,
    )


def _version(cursor: Cursor) -> tuple[int, str]:
    """The version, and the byte order in which it makes sense."""
    at = cursor.offset
    number = cursor.u32("the version")
    if number in VERSIONS:
        return number, _LITTLE
    swapped = int.from_bytes(number.to_bytes(4, "little"), "big")
    if swapped in VERSIONS:
        return swapped, _BIG
    raise format_error(
        ReasonCode.GGUF_VERSION_UNSUPPORTED,
        cursor.path,
        at,
        f"the GGUF version is {number}; supported: {', '.join(map(str, VERSIONS))}",
        hint="convert the model again with a current converter",
        value=number,
    )


def _alignment(cursor: Cursor, metadata: Metadata) -> int:
    """What tensors' places are multiples of."""
    value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    power_of_two = (
        isinstance(value, int)
        and not isinstance(value, bool)
        and 1 <= value <= _MAX_ALIGNMENT
        and value & (value - 1) == 0
    )
    if not power_of_two or not isinstance(value, int):
        raise format_error(
            ReasonCode.GGUF_METADATA_INVALID,
            cursor.path,
            metadata.offsets["general.alignment"],
            f"general.alignment is {shown(value)}; it must be a power of two up to"
            f" {_MAX_ALIGNMENT}",
            key="general.alignment",
            value=value,
        )
    return value
