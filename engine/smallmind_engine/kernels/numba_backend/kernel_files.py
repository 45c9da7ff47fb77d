"""One file for each compiled kernel, with a checksum: machine code is run only when it is whole.

Numba's own cache knows a function by the file it stands in and by its bytecode, and needs Numba to
read it. Our kernels are made by factories out of several modules, so they go by their names, in a
folder whose key knows all sources. Layout of a file: magic, SHA-256 of the rest, a line of JSON,
and an object file.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from smallmind_engine.kernels.numba_backend.whole_file import write_whole

_MAGIC: Final = b"smallmind-kernel-2\n"
_HEADER_BYTES: Final = len(_MAGIC) + hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class KernelCode:
    """A compiled kernel.

    Attributes:
        symbol: name of its C function.
        needs: symbols that it takes from elsewhere: of C, of Python, or of Numba.
        machine_code: an object file, such as ELF.
    """

    symbol: str
    needs: tuple[str, ...]
    machine_code: bytes


def read_kernel(path: Path | None) -> KernelCode | None:
    """A kernel from the disk; None when there is none. A file that is damaged is deleted."""
    if path is None:
        return None
    try:
        content = path.read_bytes()
    except OSError:  # nothing there, or not for us to read
        return None
    digest, payload = content[len(_MAGIC) : _HEADER_BYTES], content[_HEADER_BYTES:]
    if not content.startswith(_MAGIC) or hashlib.sha256(payload).digest() != digest:
        _discard(path)
        return None
    head, _, machine_code = payload.partition(b"\n")
    try:
        fields = json.loads(head)
        code = KernelCode(str(fields["symbol"]), tuple(fields["needs"]), machine_code)
    except (KeyError, TypeError, ValueError):  # a whole file that is none of ours
        _discard(path)
        return None
    return code


def write_kernel(path: Path, code: KernelCode) -> str | None:
    """Keep a kernel; answers what stood in the way."""
    head = json.dumps({"symbol": code.symbol, "needs": code.needs}).encode()
    payload = head + b"\n" + code.machine_code
    try:
        write_whole(path, _MAGIC + hashlib.sha256(payload).digest() + payload)
    except OSError as error:
        return f"{path.parent} cannot be written: {error.strerror or error}"
    return None


def _discard(path: Path) -> None:
    """Delete a file that is of no use, best effort."""
    with suppress(OSError):
        path.unlink()
