"""Putting compiled kernels into memory, which takes LLVM and neither Numba nor a compiler.

Each kernel has an engine of its own, so that functions of the same name in two kernels, which
different processes may have compiled, never meet.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any, Final

from llvmlite import binding

from smallmind_engine.kernels.numba_backend.kernel_files import KernelCode

_LOCK: Final = threading.Lock()
"""LLVM's own structures are shared by all engines."""


class LinkedKernel:
    """A kernel in memory, for as long as this object lives.

    Args:
        code: the kernel.

    Attributes:
        address: of its C function.

    Raises:
        LookupError: it needs a symbol that is nowhere to be found, such as one of a library that
            is gone. The linker would end the process.
    """

    def __init__(self, code: KernelCode) -> None:
        unknown = unknown_symbols(code.needs)
        if unknown:
            raise LookupError(*unknown)
        with _LOCK:
            machine = _target().create_target_machine()
            self._engine: Any = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
            self._engine.add_object_file(binding.ObjectFileRef.from_data(code.machine_code))
            self._engine.finalize_object()
            self.address: int = self._engine.get_function_address(code.symbol)
        if not self.address:
            raise LookupError(code.symbol)


def unknown_symbols(needs: tuple[str, ...]) -> list[str]:
    """Those that this process does not have."""
    return [symbol for symbol in needs if binding.address_of_symbol(symbol) is None]


@cache
def _target() -> Any:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding.Target.from_default_triple()
