"""Kernels that take Numba a moment only, to try the cache with."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

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


def plus(addend: int) -> Callable[[int], int]:
    """Of another factory."""

    def total(value: int) -> int:
        return value + addend

    return total


def times_kernel(factor: int) -> KernelSource:
    return KernelSource(f"times_{factor}", partial(times, factor), arguments=1, returns=True)


def plus_kernel(addend: int) -> KernelSource:
    return KernelSource(f"plus_{addend}", partial(plus, addend), arguments=1, returns=True)


def sources(*numbers: int) -> list[KernelSource]:
    return [make(number) for number in numbers for make in (times_kernel, plus_kernel)]


def check(package: Path, *numbers: int) -> CompileReport:
    """Make the kernels ready, and see that each is itself."""
    kernels, report = compile_kernels(sources(*numbers), tier=TIER, package=package)
    for number in numbers:
        assert kernels[f"times_{number}"].call(7) == 7 * number
        assert kernels[f"times_{number}"].address != 0
        assert kernels[f"plus_{number}"].call(7) == 7 + number
    return report


if __name__ == "__main__":
    report = check(Path(sys.argv[1]), *map(int, sys.argv[2:]))
    sys.stdout.write(f"{report.compiled} compiled, {report.loaded} loaded\n")
