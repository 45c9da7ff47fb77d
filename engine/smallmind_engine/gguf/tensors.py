"""The tensor table: names, shapes, types and places, all checked against the file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from smallmind_engine.control import WorkLimit
from smallmind_engine.gguf.cursor import MAX_NAME_BYTES, Cursor
from smallmind_engine.gguf.format_errors import format_error, shown
from smallmind_engine.gguf.quants import LAYOUTS, QuantType
from smallmind_engine.telemetry.reasons import ReasonCode

_MAX_DIMS: Final = 4
LEAST_ENTRY_BYTES: Final = 8 + 4 + 8 + 4 + 8  # name length, rank, one dimension, type, offset


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor is and what it is.

    Attributes:
        name: unique in the model.
        shape: outermost dimension first, as in NumPy.
        qtype: how its numbers are stored.
        byte_start: first byte in its file.
        n_bytes: how many.
        part: index of the file, for split models.
    """

    name: str
    shape: tuple[int, ...]
    qtype: QuantType
    byte_start: int
    n_bytes: int
    part: int = 0

    @property
    def n_elements(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)


def read_tensors(
    cursor: Cursor, count: int, alignment: int, part: int, limit: WorkLimit
) -> dict[str, TensorInfo]:
    """The next ``count`` entries of the tensor table, placed behind the table.

    Raises:
        GgufFormatError: the bytes break the format, or a tensor cannot be where it says.
        OperationCancelledError: ``limit`` was exceeded.
    """
    entries: dict[str, tuple[int, tuple[int, ...], QuantType, int]] = {}
    for _ in range(count):
        limit.check("reading the tensor table")
        at = cursor.offset
        name = cursor.string("a tensor's name", MAX_NAME_BYTES)
        if name in entries:
            raise format_error(
                ReasonCode.GGUF_DUPLICATE_NAME,
                cursor.path,
                at,
                f"the tensor {shown(name)} stands there twice",
                tensor=name,
            )
        entries[name] = (at, *_entry(cursor, name))
    data_start = -(-cursor.offset // alignment) * alignment
    tensors: dict[str, TensorInfo] = {}
    for name, entry in entries.items():
        limit.check("reading the tensor table")
        tensors[name] = _placed(cursor, name, entry, data_start, alignment, part)
    _refuse_overlaps(cursor, tensors, entries)
    return tensors


def _entry(cursor: Cursor, name: str) -> tuple[tuple[int, ...], QuantType, int]:
    at = cursor.offset
    rank = cursor.u32(f"the rank of {shown(name)}")
    if not 1 <= rank <= _MAX_DIMS:
        raise format_error(
            ReasonCode.GGUF_TENSOR_SHAPE,
            cursor.path,
            at,
            f"the tensor {shown(name)} has {rank} dimensions; 1 to {_MAX_DIMS} are possible",
            tensor=name,
        )
    inner_first = [cursor.u64(f"a dimension of {shown(name)}") for _ in range(rank)]
    if min(inner_first) < 1:
        raise format_error(
            ReasonCode.GGUF_TENSOR_SHAPE,
            cursor.path,
            at,
            f"the tensor {shown(name)} has the shape {inner_first}; dimensions begin at 1",
            tensor=name,
        )
    qtype = _qtype(cursor, name)
    return tuple(reversed(inner_first)), qtype, cursor.u64(f"the place of {shown(name)}")


def _qtype(cursor: Cursor, name: str) -> QuantType:
    """The next type: one of the table that has a form in the byte order of the file."""
    at = cursor.offset
    number = cursor.u32(f"the type of {shown(name)}")
    little = cursor.order == "<"
    if number in LAYOUTS:
        qtype = QuantType(number)
        if little or LAYOUTS[qtype].swapped is not None:
            return qtype
        found = f"{qtype.name}, which has no agreed byte order in big-endian files"
    else:
        found = str(number)
    known = ", ".join(
        each.name for each, layout in LAYOUTS.items() if little or layout.swapped is not None
    )
    raise format_error(
        ReasonCode.GGUF_TYPE_UNKNOWN,
        cursor.path,
        at,
        f"the tensor {shown(name)} has the type {found}; known: {known}",
        hint="convert the model to one of these types",
        tensor=name,
        value=number,
    )


def _placed(
    cursor: Cursor,
    name: str,
    entry: tuple[int, tuple[int, ...], QuantType, int],
    data_start: int,
    alignment: int,
    part: int,
) -> TensorInfo:
    at, shape, qtype, relative = entry
    layout = LAYOUTS[qtype]
    if shape[-1] % layout.block_elements:
        raise format_error(
            ReasonCode.GGUF_TENSOR_SHAPE,
            cursor.path,
            at,
            f"the tensor {shown(name)} has rows of {shape[-1]} numbers; {qtype.name} needs"
            f" multiples of {layout.block_elements}",
            tensor=name,
        )
    n_bytes = math.prod(shape) // layout.block_elements * layout.block_bytes
    if relative % alignment:
        raise format_error(
            ReasonCode.GGUF_TENSOR_MISALIGNED,
            cursor.path,
            at,
            f"the tensor {shown(name)} begins at {relative}, which is no multiple of {alignment}",
            tensor=name,
            value=relative,
        )
    start = data_start + relative
    if start + n_bytes > cursor.size:
        raise format_error(
            ReasonCode.GGUF_TENSOR_OUT_OF_FILE,
            cursor.path,
            at,
            f"the tensor {shown(name)} needs bytes {start} to {start + n_bytes}; the file ends at"
            f" {cursor.size}",
            hint="the download is probably incomplete: compare its size and SHA-256",
            tensor=name,
        )
    return TensorInfo(name, shape, qtype, start, n_bytes, part)


def _refuse_overlaps(
    cursor: Cursor,
    tensors: dict[str, TensorInfo],
    entries: dict[str, tuple[int, tuple[int, ...], QuantType, int]],
) -> None:
    in_order = sorted(tensors.values(), key=lambda tensor: tensor.byte_start)
    for before, after in pairwise(in_order):
        if before.byte_start + before.n_bytes > after.byte_start:
            raise format_error(
                ReasonCode.GGUF_TENSOR_OVERLAP,
                cursor.path,
                entries[after.name][0],
                f"the tensors {shown(before.name)} and {shown(after.name)} claim the same bytes",
                tensor=after.name,
            )
