"""Compiles kernels once per machine: from memory, else from disk, else by Numba.

Threads may call it at once; each kernel is compiled by one of them. Processes may as well: each
writes whole files under names of their own and renames them, and the last one wins.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any, Final, Literal

from numba.core.ccallback import CFunc
from numba.core.registry import CPUDispatcher

from smallmind_engine.control import NO_LIMIT, WorkLimit, run_or_leave
from smallmind_engine.kernels.compile_report import CompileProgress, CompileReport
from smallmind_engine.kernels.numba_backend.cache_location import (
    PACKAGE,
    cache_key,
    cache_root,
    mark_used,
    remove_unused,
)
from smallmind_engine.kernels.numba_backend.kernel_files import KernelFile

__all__ = [
    "CompileProgress",
    "CompileReport",
    "CompiledKernel",
    "KernelSource",
    "compile_kernels",
]


@dataclass(frozen=True, slots=True)
class KernelSource:
    """A kernel that is to be compiled.

    Attributes:
        name: what it is known by; with signature and kind it stands for one function.
        signature: Numba's, with the return type.
        function: what Numba compiles.
        kind: ``cfunc`` for a C function, ``njit`` for a function that Python calls.
        fastmath: as in ``numba.njit``; a set of LLVM's flags by name, or all or none.
    """

    name: str
    signature: Any
    function: Callable[..., Any] = field(compare=False, repr=False)
    kind: Literal["cfunc", "njit"] = "cfunc"
    fastmath: bool | frozenset[str] = False


@dataclass(frozen=True, slots=True)
class CompiledKernel:
    """A kernel that is ready. The machine code lives as long as this process.

    Attributes:
        source: what it was compiled from.
        code: Numba's ``CFunc`` or dispatcher; it keeps the machine code alive.
    """

    source: KernelSource
    code: Any = field(compare=False, repr=False)

    @property
    def address(self) -> int:
        """Address of the C function (kind ``cfunc``)."""
        address: int = self.code.address
        return address

    @property
    def call(self) -> Callable[..., Any]:
        """Calls the kernel from Python; without the GIL."""
        call: Callable[..., Any]
        call = self.code.ctypes if self.source.kind == "cfunc" else self.code
        return call


class _Ready:
    """The kernels of this process. Machine code cannot be unloaded, so they are for all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.kernels: dict[tuple[str, KernelSource], CompiledKernel] = {}
        self.problems: dict[Path, str] = {}

    def make(
        self, source: KernelSource, key: str, tier: str, path: Path | None
    ) -> tuple[CompiledKernel, bool | None]:
        """A kernel from disk or from Numba; None instead of which when another thread made it."""
        with self._lock:
            kernel = self.kernels.get((key, source))
            if kernel is not None:
                return kernel, None
            file = KernelFile(path)
            kernel = _compile(source, file, f"{source.name}.{tier}.{key}")
            self.kernels[key, source] = kernel
            if path is not None and file.problem is not None:
                self.problems[path.parent] = file.problem
            return kernel, file.found


_READY: Final = _Ready()


def compile_kernels(
    sources: Sequence[KernelSource],
    *,
    tier: str,
    limit: WorkLimit = NO_LIMIT,
    on_progress: CompileProgress | None = None,
    package: Path = PACKAGE,
) -> tuple[Mapping[str, CompiledKernel], CompileReport]:
    """Make kernels ready to be called.

    Args:
        sources: the kernels; names are unique among them.
        tier: the instructions they use; part of the cache's key.
        limit: stops at once. Those that are ready stay so, and one that is being compiled becomes
            so in the background.
        on_progress: told before each kernel and at the end, from the first one on that has to be
            compiled; from the calling thread.
        package: the folder whose sources are in the cache's key.

    Returns:
        The kernels by name, and how it went. A cache that cannot be used is no error: the report
        tells of it.

    Raises:
        OperationCancelledError: ``limit`` was reached.
    """
    begin = time.perf_counter()
    key, directory, problem = _place(tier, package)
    kernels: dict[str, CompiledKernel] = {}
    compiled = loaded = 0
    slow = False
    for done, source in enumerate(sources):
        limit.check("compiling kernels")
        path = None if directory is None else directory / _file_name(source)
        slow = slow or not ((key, source) in _READY.kernels or _is_there(path))
        if slow and on_progress is not None:
            on_progress(source.name, done, len(sources))
        kernel = _READY.kernels.get((key, source))
        if kernel is None:
            # One kernel can take Numba seconds. Who is told to stop does not wait for it; it gets
            # ready in the background, for the next one who needs it.
            make = partial(_READY.make, source, key, tier, path)
            kernel, found = run_or_leave(make, limit, "compiling kernels")
            loaded += found is True
            compiled += found is False
        kernels[source.name] = kernel
    if slow and on_progress is not None:
        on_progress(sources[-1].name, len(sources), len(sources))
    if directory is not None and directory in _READY.problems:
        problem = _READY.problems[directory]
        directory = None
    if directory is not None:
        mark_used(directory)
        if compiled:
            remove_unused(directory.parent, key)
    seconds = time.perf_counter() - begin
    cached = len(sources) - compiled
    return kernels, CompileReport(compiled, cached, seconds, directory, problem, loaded)


def missing_kernels(
    sources: Sequence[KernelSource], *, tier: str, package: Path = PACKAGE
) -> list[KernelSource]:
    """Those that are neither in memory nor on disk."""
    key, directory, _ = _place(tier, package)
    return [
        source
        for source in sources
        if (key, source) not in _READY.kernels
        and not _is_there(None if directory is None else directory / _file_name(source))
    ]


def kernel_path(source: KernelSource, *, tier: str, package: Path = PACKAGE) -> Path | None:
    """Where a kernel is kept; None when there is no place for it, or it cannot be written to."""
    _, directory, _ = _place(tier, package)
    if directory is None or directory in _READY.problems:
        return None
    return directory / _file_name(source)


def _place(tier: str, package: Path) -> tuple[str, Path | None, str | None]:
    """The key, the folder if there is one, and why not if there is none."""
    try:
        key = cache_key(tier, package)
    except OSError as error:
        return f"{tier}-unkeyed", None, f"the sources of the kernels cannot be read: {error}"
    root = cache_root()
    if root is None:
        return key, None, "there is no home directory; set SMALLMIND_CACHE_DIR"
    return key, root / "kernels" / key, None


def _is_there(path: Path | None) -> bool:
    return path is not None and os.path.exists(path)  # noqa: PTH110 - never raises, as Path's may


def _file_name(source: KernelSource) -> str:
    """The readable name and a hash of all that tells kernels of one key apart."""
    identity = repr((source.name, source.kind, str(source.signature), _flags(source)))
    readable = re.sub(r"[^A-Za-z0-9_.-]", "_", source.name)[:80]
    return f"{readable}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.kernel"


def _flags(source: KernelSource) -> bool | list[str]:
    return source.fastmath if isinstance(source.fastmath, bool) else sorted(source.fastmath)


def _compile(source: KernelSource, file: KernelFile, symbol: str) -> CompiledKernel:
    function = _renamed(source.function, symbol)
    fastmath = source.fastmath if isinstance(source.fastmath, bool) else set(source.fastmath)
    options = {"nopython": True, "nogil": True, "error_model": "numpy", "fastmath": fastmath}
    signature = source.signature
    code: Any  # where `_cache` is, `enable_caching` puts Numba's own
    if source.kind == "cfunc":
        code = CFunc(function, (signature.args, signature.return_type), {}, options)
        code._cache = file  # noqa: SLF001 - see above
        code.compile()
    else:
        code = CPUDispatcher(function, targetoptions=options)
        code._cache = file  # noqa: SLF001 - see above
        code.compile(signature)
        code.disable_compile()
    return CompiledKernel(source, code)


def _renamed(function: Any, symbol: str) -> FunctionType:
    """The function under a name that no other kernel has.

    Numba makes symbols of the name and of a count within the process. Two kernels of one factory,
    compiled by two processes, would share one, and which is linked would be the linker's choice.
    """
    twin = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    twin.__qualname__ = symbol
    twin.__module__ = function.__module__
    twin.__kwdefaults__ = function.__kwdefaults__
    return twin
