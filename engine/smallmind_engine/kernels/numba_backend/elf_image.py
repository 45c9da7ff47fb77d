"""Puts a kernel's object file into memory without LLVM, whose library takes 45 MB and 60 ms.

It knows what LLVM makes of kernels on x86-64 with the large code model: ELF files with code,
constants, and absolute 64-bit addresses. Anything else is left to LLVM. Sources: System V gABI,
chapter 4, and its AMD64 supplement (R_X86_64_64).
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

_HEADER: Final = struct.Struct("<4sBB10x2H4x3Q4x6H")
_SECTION: Final = struct.Struct("<2I4Q2I2Q")
_SYMBOL: Final = struct.Struct("<I2BH2Q")
_RELOCATION: Final = struct.Struct("<2Qq")
_ADDRESS: Final = struct.Struct("<Q")

_MAGIC: Final = b"\x7fELF"
_CLASS_64: Final = 2
_LITTLE_ENDIAN: Final = 1
_RELOCATABLE: Final = 1
_X86_64: Final = 62
_ABSOLUTE_64: Final = 1  # R_X86_64_64
_UNDEFINED: Final = 0
_LONGEST_NAME: Final = 4096
_UNWINDING: Final = b".eh_frame"  # for exceptions, which pass through no kernel


class _Kind(IntEnum):
    """Section types."""

    CODE = 1
    SYMBOLS = 2
    RELOCATIONS = 4
    SHORT_RELOCATIONS = 9
    UNWINDING = 0x70000001


class _Flag(IntFlag):
    """Section flags."""

    WRITABLE = 1
    LOADED = 2


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


class _Symbol(NamedTuple):
    name: int
    info: int
    other: int
    section: int
    value: int
    size: int


class _OtherKindError(Exception):
    """An object file that this module can do nothing with."""


@dataclass(frozen=True, slots=True)
class Image:
    """A kernel in memory, for as long as this object lives.

    Attributes:
        address: of its C function.
        keeps: the memory.
    """

    address: int
    keeps: object


def image_of(machine_code: bytes, symbol: str) -> Image | None:
    """An object file in memory, ready to be run.

    Args:
        machine_code: the file. It must be trusted.
        symbol: name of the function that is wanted.

    Returns:
        The image; None when the file is of another kind, when it has no such function or needs
        one that is nowhere to be found, and when the system lets nobody run memory that was
        written: LLVM may know how.
    """
    if platform.machine().lower() not in {"x86_64", "amd64"} or not hasattr(mmap, "PROT_EXEC"):
        return None
    try:
        return _Object(machine_code).image(symbol)
    except (_OtherKindError, struct.error, ValueError, IndexError):
        return None


class _Object:
    """An object file that is taken apart.

    Args:
        content: the file.

    Raises:
        _OtherKindError: it is of a kind that is not known here.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        magic, bits, order, kind, machine, _, _, at, _, _, _, size, count, names = (
            _HEADER.unpack_from(content)
        )
        known = (_MAGIC, _CLASS_64, _LITTLE_ENDIAN, _RELOCATABLE, _X86_64, _SECTION.size)
        if (magic, bits, order, kind, machine, size) != known:
            raise _OtherKindError
        self._sections = [
            _Section(*_SECTION.unpack_from(content, at + index * size)) for index in range(count)
        ]
        self._names = self._sections[names]
        self._offsets: dict[int, int] = {}
        self._size = self._lay_out()

    def _lay_out(self) -> int:
        """Find a place for each section that is loaded; answers the size of all."""
        end = 0
        for index, section in enumerate(self._sections):
            if not section.flags & _Flag.LOADED or self._is_for_unwinding(section):
                continue
            if section.kind != _Kind.CODE or section.flags & _Flag.WRITABLE:
                raise _OtherKindError
            alignment = max(section.alignment, 1)
            begin = -(-end // alignment) * alignment
            self._offsets[index] = begin
            end = begin + section.size
        return end

    def _is_for_unwinding(self, section: _Section) -> bool:
        return section.kind == _Kind.UNWINDING or (
            self._text(self._names, section.name) == _UNWINDING
        )

    def _text(self, table: _Section, at: int) -> bytes:
        begin = table.offset + at
        return self._content[begin : self._content.index(b"\0", begin, begin + _LONGEST_NAME)]

    def image(self, wanted: str) -> Image | None:
        """The sections in memory, with all addresses filled in."""
        memory = mmap.mmap(
            -1,
            max(self._size, 1),
            flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
            prot=mmap.PROT_READ | mmap.PROT_WRITE,
        )
        base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for index, begin in self._offsets.items():
            section = self._sections[index]
            memory[begin : begin + section.size] = self._content[
                section.offset : section.offset + section.size
            ]
        for section in self._sections:
            if section.kind == _Kind.SHORT_RELOCATIONS and section.info in self._offsets:
                raise _OtherKindError
            if section.kind == _Kind.RELOCATIONS and section.info in self._offsets:
                self._relocate(section, memory, base)
        address = self._find(wanted, base)
        return Image(address, memory) if _make_executable(base, len(memory)) else None

    def _relocate(self, relocations: _Section, memory: mmap.mmap, base: int) -> None:
        """Fill in the addresses that a section holds."""
        begin = self._offsets[relocations.info]
        symbols = self._sections[relocations.link]
        for index in range(relocations.size // _RELOCATION.size):
            place, info, addend = _RELOCATION.unpack_from(
                self._content, relocations.offset + index * _RELOCATION.size
            )
            if info & 0xFFFFFFFF != _ABSOLUTE_64:
                raise _OtherKindError
            value = self._value(symbols, self._symbol(symbols, info >> 32), base)
            _ADDRESS.pack_into(memory, begin + place, value + addend)

    def _symbol(self, table: _Section, index: int) -> _Symbol:
        return _Symbol(*_SYMBOL.unpack_from(self._content, table.offset + index * _SYMBOL.size))

    def _value(self, table: _Section, symbol: _Symbol, base: int) -> int:
        if symbol.section == _UNDEFINED:
            return _address_of(self._text(self._sections[table.link], symbol.name).decode())
        if symbol.section not in self._offsets:
            raise _OtherKindError
        return base + self._offsets[symbol.section] + symbol.value

    def _find(self, wanted: str, base: int) -> int:
        """The address of a function of the file's own."""
        for table in self._sections:
            if table.kind != _Kind.SYMBOLS:
                continue
            names = self._sections[table.link]
            for index in range(table.size // _SYMBOL.size):
                symbol = self._symbol(table, index)
                if symbol.section in self._offsets and (
                    self._text(names, symbol.name) == wanted.encode()
                ):
                    return self._value(table, symbol, base)
        raise _OtherKindError


def _make_executable(address: int, size: int) -> bool:
    """Let memory be run, and not be written any more; whether the system allows it."""
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    failed: int = protect(address, size, mmap.PROT_READ | mmap.PROT_EXEC)
    return not failed


def _address_of(symbol: str) -> int:
    """Of a function of this process or its libraries."""
    try:
        found = getattr(ctypes.CDLL(None), symbol)
    except AttributeError:
        raise _OtherKindError from None
    address = ctypes.cast(found, ctypes.c_void_p).value
    if address is None:  # pragma: no cover - ctypes finds no such symbol
        raise _OtherKindError
    return address
