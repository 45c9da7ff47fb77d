"""One file for each compiled kernel, with a checksum: machine code is run only when it is whole.

Numba's own cache knows a function by the file it stands in and by its bytecode. Our kernels are
made by factories out of several modules, so they go by their names, in a folder whose key knows all
sources. Layout of a file: magic, SHA-256 of the rest, and pickled the symbols that the code takes
from elsewhere and the parts of Numba's compile result.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from llvmlite import binding
from numba.core import serialize
from numba.core.compiler import CompileResult
from numba.core.runtime.nrt import rtsys

_MAGIC: Final = b"smallmind-kernel-1\n"
_HEADER_BYTES: Final = len(_MAGIC) + hashlib.sha256().digest_size

_FOREIGN: Final = re.compile(
    r"""^(?:declare\b[^@\n]*@(?!"?llvm\.)|@(?=[^\n]*= external\b))"?([^"(\s]+)""", re.MULTILINE
)
"""Functions and variables that a module of LLVM's assembly only declares."""

_pickled: Any = serialize.dumps  # without types of its own

# What unpickling and linking raise for content that is not what was written.
_UNUSABLE: Final = (
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


class KernelFile:
    """The place of one kernel on disk, as Numba's ``CFunc`` and dispatchers take their ``_cache``.

    Args:
        path: of the file; its folder need not exist. None for a kernel that is not kept.

    Attributes:
        found: whether the last ``load_overload`` came from the disk.
        problem: why the kernel could not be saved; None when it could.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.found = False
        self.problem: str | None = None

    def load_overload(self, _signature: Any, target_context: Any) -> Any:
        """The compile result from the disk; None when there is none, or it is damaged."""
        self.found = False
        if self._path is None:
            return None
        payload = self._payload(self._path)
        if payload is None:
            return None
        try:
            symbols, parts = pickle.loads(payload)  # noqa: S301 - our own file, and it is whole
            _provide(symbols, target_context)
            rebuild: Any = CompileResult._rebuild  # noqa: SLF001 - Numba's way
            result = rebuild(target_context, *parts)
        except _UNUSABLE:
            self._discard(self._path)
            return None
        self.found = True
        return result

    def save_overload(self, _signature: Any, result: Any) -> None:
        """Write the compile result; what stands in the way becomes ``problem``."""
        if self._path is None:
            return
        if result.lifted or result.library.has_dynamic_globals:
            self.problem = f"{self._path.stem} holds addresses of this process"
            return
        symbols = _FOREIGN.findall(result.library.get_llvm_str())
        payload: bytes = _pickled((symbols, result._reduce()))  # noqa: SLF001 - Numba's way
        draft = self._path.with_name(f"{self._path.name}.{uuid.uuid4().hex[:16]}.draft")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(_MAGIC + hashlib.sha256(payload).digest() + payload)
            os.replace(draft, self._path)  # noqa: PTH105 - atomic; readers see all or nothing
        except OSError as error:
            self.problem = f"{self._path.parent} cannot be written: {error.strerror or error}"
            with suppress(OSError):
                draft.unlink()

    def _payload(self, path: Path) -> bytes | None:
        try:
            content = path.read_bytes()
        except OSError:  # nothing there, or not for us to read
            return None
        digest, payload = content[len(_MAGIC) : _HEADER_BYTES], content[_HEADER_BYTES:]
        if content.startswith(_MAGIC) and hashlib.sha256(payload).digest() == digest:
            return payload
        self._discard(path)
        return None

    @staticmethod
    def _discard(path: Path) -> None:
        with suppress(OSError):
            path.unlink()


def _refresh(target_context: Any) -> None:
    target_context.refresh()


def _provide(symbols: list[str], target_context: Any) -> None:
    """Make symbols known to the linker, which ends the process when one is not.

    All of Numba has them after ``refresh``, which takes 0.2 s; few kernels call into all of it.

    Raises:
        LookupError: a symbol is nowhere to be found, such as one of a library that is gone.
    """
    runtime: Any = rtsys
    for step in (runtime.initialize, _refresh):
        if not _unknown(symbols):
            return
        step(target_context)
    if _unknown(symbols):
        raise LookupError(*_unknown(symbols))


def _unknown(symbols: list[str]) -> list[str]:
    return [symbol for symbol in symbols if binding.address_of_symbol(symbol) is None]
