"""Kernels that take Numba a moment only, to try the cache with."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from numba import types

from smallmind_engine.kernels.numba_backend.compile_cache import (
    CompileReport,
    KernelSource,
    compile_kernels,
)

TIER = "toy"


def times(factor: int) -> Callable[[int], int]:
    """A function of a factory: its bytecode is that of all its siblings."""

    def product(value: int) -> int:
        return value * factor

    return product


def c_function(factor: int) -> KernelSource:
    return KernelSource(
        f"times_{factor}", types.int64(types.int64), times(factor), "cfunc", frozenset({"nnan"})
    )


def python_function(factor: int) -> KernelSource:
    return KernelSource(f"py_times_{factor}", types.int64(types.int64), times(factor), "njit")


def sources(*factors: int) -> list[KernelSource]:
    return [make(factor) for factor in factors for make in (c_function, python_function)]


def check(package: Path, *factors: int) -> CompileReport:
    """Make the kernels ready, and see that each is itself."""
    kernels, report = compile_kernels(sources(*factors), tier=TIER, package=package)
    for factor in factors:
        assert kernels[f"times_{factor}"].call(7) == 7 * factor
        assert kernels[f"times_{factor}"].address != 0
        assert kernels[f"py_times_{factor}"].call(7) == 7 * factor
    return report


if __name__ == "__main__":
    report = check(Path(sys.argv[1]), *map(int, sys.argv[2:]))
    sys.stdout.write(f"{report.compiled} compiled, {report.loaded} loaded\n")
