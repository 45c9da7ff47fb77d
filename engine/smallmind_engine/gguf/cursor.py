"""A cursor over the bytes of a file that never reads past their end."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Final

from smallmind_engine.gguf.format_errors import format_error
from smallmind_engine.gguf.short_strings import short_strings
from smallmind_engine.telemetry.reasons import ReasonCode

Buffer = bytes | mmap.mmap

MAX_NAME_BYTES: Final = (1 << 16) - 1
"""Of metadata keys by the specification; tensor names, which are shorter, share it."""

_INCOMPLETE: Final = "the file is damaged or incomplete: compare its size and SHA-256"


class Cursor:
    """Reads numbers and strings one after the other, each checked against the end first.

    Args:
        buffer: all bytes of the file.
        path: for errors.
        order: ``<`` for little-endian values, ``>`` for big-endian ones.
    """

    __slots__ = ("_count", "_u32", "buffer", "offset", "order", "path", "size")

    def __init__(self, buffer: Buffer, path: Path, order: str = "<") -> None:
        self.buffer = buffer
        self.path = path
        self.order = order
        self.offset = 0
        self.size = len(buffer)
        self._u32 = struct.Struct(order + "I")
        self._count = struct.Struct(order + "Q")

    def need(self, n_bytes: int, what: str) -> None:
        """Raise unless so many bytes are left.

        Raises:
            GgufFormatError: the file ends before.
        """
        left = self.size - self.offset
        if n_bytes > left:
            raise format_error(
                ReasonCode.GGUF_TRUNCATED,
                self.path,
                self.offset,
                f"{what} needs {n_bytes} bytes; the file ends after {left}",
                hint=_INCOMPLETE,
                needed=n_bytes,
                left=left,
            )

    def number(self, layout: struct.Struct, what: str) -> int | float:
        """The next number."""
        self.need(layout.size, what)
        (value,) = layout.unpack_from(self.buffer, self.offset)
        self.offset += layout.size
        return value  # type: ignore[no-any-return]  # struct does not tell its types

    def u32(self, what: str) -> int:
        """The next 32-bit count."""
        return int(self.number(self._u32, what))

    def u64(self, what: str) -> int:
        """The next 64-bit count."""
        return int(self.number(self._count, what))

    def count(self, least_bytes: int, what: str) -> int:
        """The next 64-bit count of things that take at least so many bytes each.

        Raises:
            GgufFormatError: so many cannot be in what is left of the file.
        """
        at = self.offset
        count = self.u64(what)
        if count * least_bytes > self.size - self.offset:
            raise format_error(
                ReasonCode.GGUF_VALUE_OUT_OF_RANGE,
                self.path,
                at,
                f"{what} is {count}; the {self.size - self.offset} bytes that follow"
                f" cannot hold so many",
                hint=_INCOMPLETE,
                value=count,
            )
        return count

    def string(self, what: str, most_bytes: int | None = None) -> str:
        """The next string; bytes that are no UTF-8 are kept as surrogate escapes.

        Raises:
            GgufFormatError: the file ends before the string does, or it is longer than
                ``most_bytes``.
        """
        at = self.offset
        length = self.count(1, f"the length of {what}")
        if most_bytes is not None and length > most_bytes:
            raise format_error(
                ReasonCode.GGUF_VALUE_OUT_OF_RANGE,
                self.path,
                at,
                f"{what} takes {length} bytes; at most {most_bytes} are possible",
                value=length,
            )
        begin = self.offset
        self.offset += length
        return bytes(self.buffer[begin : self.offset]).decode("utf-8", "surrogateescape")

    def strings(self, count: int, what: str) -> list[str]:
        """The next ``count`` strings; quick, since vocabularies have 262,144 of them."""
        found: list[str] = []
        while self.order == "<" and len(found) < count:
            some, self.offset = short_strings(self.buffer, self.offset, count - len(found))
            if not some:
                break
            found += some
        buffer, size, offset = self.buffer, self.size, self.offset
        unpack = self._count.unpack_from
        append = found.append
        try:
            for _ in range(count - len(found)):
                (length,) = unpack(buffer, offset)
                begin = offset + 8
                offset = begin + length
                if offset > size:
                    self.offset = begin
                    self.need(length, f"string {len(found)} of {what}")
                append(str(buffer[begin:offset], "utf-8", "surrogateescape"))
        except struct.error:
            self.offset = offset
            self.need(8, f"the length of string {len(found)} of {what}")
            raise  # pragma: no cover - need raises when fewer than 8 bytes are left
        self.offset = offset
        return found
