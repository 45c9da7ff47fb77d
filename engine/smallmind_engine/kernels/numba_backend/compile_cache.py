"""Compiles kernels once per machine: from memory, else from disk, else by Numba.

Threads may call it at once; each kernel is compiled by one of them. Processes may as well: each
writes whole files under names of their own and renames them, and the last one wins.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from smallmind_engine.control import NO_LIMIT, WorkLimit, run_or_leave
from smallmind_engine.kernels.compile_report import CompileProgress, CompileReport
from smallmind_engine.kernels.numba_backend.cache_location import (
    PACKAGE,
    cache_key,
    mark_used,
    remove_unused,
)
from smallmind_engine.kernels.numba_backend.cache_root import cache_root
from smallmind_engine.kernels.numba_backend.kernel_files import read_kernel, write_kernel
from smallmind_engine.kernels.numba_backend.machine_code import linked
from smallmind_engine.kernels.preloading import preload_compiler

__all__ = [
    "CompileProgress",
    "CompileReport",
    "CompiledKernel",
    "KernelSource",
    "compile_kernels",
    "is_kept",
]


@dataclass(frozen=True, slots=True)
class KernelSource:
    """A kernel that is to be compiled: a C function of 64-bit integers.

    Attributes:
        name: what it is known by; with the prototype it stands for one function.
        make: makes the function that Numba compiles; called only when it has to be compiled.
        arguments: how many it takes.
        returns: whether it answers an integer, or nothing.
    """

    name: str
    make: Callable[[], Callable[..., Any]] = field(compare=False, repr=False)
    arguments: int = 2
    returns: bool = False


@dataclass(frozen=True, slots=True)
class CompiledKernel:
    """A kernel that is ready. The machine code lives as long as this process.

    Attributes:
        source: what it was compiled from.
        address: of the C function.
        call: calls it from Python, without the GIL.
        keeps: owns the machine code.
    """

    source: KernelSource
    address: int
    call: Callable[..., Any] = field(compare=False, repr=False)
    keeps: object = field(compare=False, repr=False)


class _Ready:
    """The kernels of this process. Machine code cannot be unloaded, so they are for all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.kernels: dict[tuple[str, KernelSource], CompiledKernel] = {}
        self.problems: dict[Path, str] = {}

    def make(
        self, source: KernelSource, key: str, tier: str, path: Path | None
    ) -> tuple[CompiledKernel, bool | None]:
        """A kernel, and whether it came from disk; None when another thread has made it."""
        with self._lock:
            kernel = self.kernels.get((key, source))
            if kernel is not None:
                return kernel, None
            kernel = _load(source, path)
            found = kernel is not None
            if kernel is None:
                kernel, trouble = _compile(source, path, f"{source.name}.{tier}.{key}")
                if path is not None and trouble is not None:
                    self.problems[path.parent] = trouble
            self.kernels[key, source] = kernel
            return kernel, found


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


def is_kept(source: KernelSource, *, tier: str, package: Path = PACKAGE) -> bool:
    """Whether a kernel is on disk, so that Numba is not needed for it."""
    _, directory, _ = _place(tier, package)
    return directory is not None and _is_there(directory / _file_name(source))


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
    """The name, and the prototype; the folder's key tells all else apart."""
    readable = re.sub(r"[^A-Za-z0-9_.-]", "_", source.name)[:80]
    return f"{readable}.{source.arguments}{'r' if source.returns else ''}.kernel"


def _load(source: KernelSource, path: Path | None) -> CompiledKernel | None:
    """A kernel from the disk; None when there is none that can be used."""
    code = read_kernel(path)
    if path is None or code is None:
        return None
    try:
        image = linked(code)
    except LookupError:  # a symbol of Numba's, or of a library that is gone
        return None
    return _callable(source, image.address, image)


def _compile(
    source: KernelSource, path: Path | None, symbol: str
) -> tuple[CompiledKernel, str | None]:
    """A kernel from Numba, and why it could not be kept."""
    preload_compiler()
    from smallmind_engine.kernels.numba_backend.emit.numba_compiler import compile_function

    code, compiled = compile_function(
        source.make(), symbol, source.arguments, returns=source.returns
    )
    kernel = _callable(source, compiled.address, compiled)
    if path is None:
        return kernel, None
    if not code.machine_code:
        return kernel, f"{path.stem} holds addresses of this process"
    return kernel, write_kernel(path, code)


def _callable(source: KernelSource, address: int, keeps: object) -> CompiledKernel:
    result = ctypes.c_int64 if source.returns else None
    prototype = ctypes.CFUNCTYPE(result, *[ctypes.c_int64] * source.arguments)
    return CompiledKernel(source, address, prototype(address), keeps)
